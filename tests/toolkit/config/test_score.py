"""The options of `toolkit score` that cannot be used are named together."""

from __future__ import annotations

import pytest

from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError


def test_every_problem_is_listed() -> None:
    with pytest.raises(ToolkitError) as caught:
        ScoreConfig("m", "out.xlsx", device="tpu", workers=0).check()
    for problem in ("no --input", "--out out.xlsx", "--device tpu", "--workers 0"):
        assert problem in caught.value.problem


@pytest.mark.parametrize("out", ["a.parquet", "a.csv", "a.jsonl"])
def test_each_format_is_accepted(out: str) -> None:
    ScoreConfig("m", out, input=("a.txt",)).check()
