"""The speed benchmark's parts that need no quiet machine, and one small run of the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.export.speed import NAMES, OURS, compare_times
from tests.support.paths import ROOT


def test_ratios_say_how_many_times_faster_ours_is() -> None:
    row = compare_times({OURS: [1.0, 1.0, 1.0], "peer": [2.0, 3.0, 4.0]})
    assert (row[OURS]["ours_is_faster"], row[OURS]["low"], row[OURS]["high"]) == (1.0, 1.0, 1.0)
    assert row["peer"]["ours_is_faster"] == row["peer"]["median_ms"] == 3.0
    assert 2.0 <= row["peer"]["low"] <= 3.0 <= row["peer"]["high"] <= 4.0


@pytest.mark.slow
def test_a_small_run_of_the_whole(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    paths = [str(tiny_student), "--data", str(data_dir), "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.export.speed", *paths]
    small = ["--threads", "1", "--processes", "1", "--rounds", "2", "--shapes", "1x8", "2x16"]
    subprocess.run([*command, *small], check=True, cwd=ROOT)
    report = json.loads(out.read_text())
    measured = report["threads"]["1"]
    assert list(measured["cells"]) == ["1x8", "2x16", "real lengths"]
    for row in measured["cells"].values():
        assert tuple(row) == NAMES
        assert all(len(times["samples_ms"]) == 2 and times["median_ms"] > 0 for times in row.values())
    assert measured["answers"]["our fp32"]["largest_difference"] < 1e-4
    assert measured["answers"][OURS]["batch_difference"] <= 1e-5
    assert measured["answers"]["onnxruntime dynamic int8"]["batch_difference"] > 1e-5
    limits = report["profile"]["cells"]["2x16"]
    assert limits["int8_multiply_adds"] == 2 * 16 * 3 * (4 * 24 * 24 + 2 * 24 * 48)
