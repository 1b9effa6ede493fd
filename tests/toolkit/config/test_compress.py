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


def test_a_cluster_has_a_plain_address_and_its_cpus_are_about_one() -> None:
    with pytest.raises(ToolkitError) as caught:
        CompressConfig("teacher", "sst2", "out", max_size_mb=1.0, ray="ray://10.0.0.1:6379", ray_cpus=0).check()
    assert "--ray ray://10.0.0.1:6379: expected HOST:PORT, auto or local" in caught.value.problem
    assert "--ray-cpus 0: expected 1 or more" in caught.value.problem
    assert "--ray-cpus 2 without --ray" in only_problem(
        CompressConfig("teacher", "sst2", "out", max_size_mb=1.0, ray_cpus=2)
    )
    assert "--ray 10.0.0.1: expected" in only_problem(
        CompressConfig("teacher", "sst2", "out", max_size_mb=1.0, ray="10.0.0.1")
    )
    for address in ("10.0.0.1:6379", "[::1]:6379", "auto", "local"):
        CompressConfig("teacher", "sst2", "out", max_size_mb=1.0, ray=address, ray_cpus=2).check()
