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


@pytest.mark.parametrize("out", ["a.parquet", "a.csv", "a.jsonl", "folder"])
def test_each_format_is_accepted(out: str) -> None:
    ScoreConfig("m", out, input=("a.txt",)).check()


@pytest.mark.parametrize(("model", "address"), [("http://host/predict", "auto"), ("m", "ray://host:10001")])
def test_a_cluster_scores_by_models_of_its_own_and_has_a_plain_address(model: str, address: str) -> None:
    with pytest.raises(ToolkitError, match=f"--ray {address}: expected HOST:PORT, auto or local, and a bundle"):
        ScoreConfig(model, "a.csv", input=("a.txt",), ray=address).check()
    ScoreConfig("m", "a.csv", input=("a.txt",), ray="10.0.0.1:6379").check()


def test_a_model_is_remote_where_it_is_named_by_a_url() -> None:
    models = ("http://a/predict", "https://a", "runs/http")
    assert [ScoreConfig(model, "a.csv").remote for model in models] == [True, True, False]
