"""A GPU check keeps what it has, whatever happens to one of its parts."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.report import Part, Settings, read, write
from benchmarks.gpu.run import _run_in_process, run


def endless(part: Part) -> None:
    """Keep a row, and go on for ever."""
    os.setpgrp()
    part.keep([1.5])
    time.sleep(600)


def crash(part: Part) -> None:
    """Keep a row, and end as after a fault of a driver."""
    part.keep([2.5])
    os._exit(3)


@pytest.mark.parametrize(
    ("target", "state", "reason", "kept"),
    [(endless, "stopped", "its time was over", [1.5]), (crash, "failed", "exit code 3", [2.5])],
)
def test_a_part_that_is_ended_or_crashes_keeps_its_rows(
    target: Callable[[Part], None], state: str, reason: str, kept: list[float], tmp_path: Path
) -> None:
    part = Part("claim", Settings("cpu", True, tmp_path), time.monotonic() + 600)
    write(part.settings.report, {"parts": {"checks": {"state": "done"}}})
    process = multiprocessing.get_context("forkserver").Process(target=target, args=(part,))
    _run_in_process(process, part, end=time.monotonic() + (5 if target is endless else 60))
    parts = read(part.settings.report)["parts"]
    assert parts["checks"] == {"state": "done"}
    assert (parts["claim"]["state"], parts["claim"]["result"]) == (state, kept)
    assert reason in parts["claim"].get("reason", parts["claim"].get("error"))
    assert not process.is_alive()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the first part is to fail for want of a GPU")
def test_the_next_part_runs_when_one_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not run(Settings("cuda", True, tmp_path, seeds=(1,)), 2.0, ("quality", "checks"))
    parts = read(tmp_path / "gpu.json")["parts"]
    assert list(parts) == ["checks", "quality"]  # the most important first
    assert parts["checks"]["state"] == "failed"
    assert "CUDA" in parts["checks"]["error"]
    assert parts["quality"]["state"] == "done"
    row = parts["quality"]["result"][0]
    assert (row["task"], row["seed"]) == ("sst2", 1)
    assert row["teacher"] > 90
    assert "quality: done" in capfd.readouterr().out


def test_without_time_a_part_is_left_out(tmp_path: Path) -> None:
    assert run(Settings("cuda", True, tmp_path), 0.0, ("claim",))
    assert read(tmp_path / "gpu.json")["parts"]["claim"]["state"] == "left out"
