"""The options of `toolkit compress`."""

from __future__ import annotations

import pytest

from tests.support.problems import only_problem
from toolkit.config import CompressConfig
from toolkit.errors import ToolkitError


def test_a_budget_is_needed_and_points_alone_are_none() -> None:
    assert "no budget: expected --max-latency-ms, --max-size-mb or both" in only_problem(
        CompressConfig("teacher", "sst2", "out", max_drop=1.0)
    )
    CompressConfig("teacher", "sst2", "out", max_latency_ms=1.0).check()
    CompressConfig("teacher", "sst2", "out", max_size_mb=1.0).check()


def test_every_problem_is_listed() -> None:
    with pytest.raises(ToolkitError) as caught:
        CompressConfig("teacher", "auto", "out", max_size_mb=0.0, max_drop=-1.0, threads=0, hours=0.0).check()
    for problem in ("--max-size-mb 0", "--max-drop -1", "--threads 0", "--hours 0", "--task auto"):
        assert problem in caught.value.problem
