"""The figures of the benchmark come from the real command and the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inference.scoring import command_run, engine_rate, killed_runs, summary, write_rows


def test_the_command_and_the_engine_are_measured(tiny_onnx: Path, tmp_path: Path) -> None:
    file, out = write_rows(tmp_path / "a.txt", ["a good film", "a dull plot"], 50), tmp_path / "out.csv"
    assert file.read_text().splitlines() == ["a good film", "a dull plot"] * 25
    own = bytearray(2**29)
    seconds, peak = command_run(str(tiny_onnx), file, out)
    assert seconds > 0.1
    assert 20e6 < peak < len(own), "bytes of the command alone"
    assert len(out.read_text().splitlines()) == 51
    assert engine_rate(str(tiny_onnx), ["a good film"] * 20) > 10
    kills = [{"seconds": 0.1, "parts": 0}]
    assert killed_runs(str(tiny_onnx), file, out, [0.1]) == {"kills": kills, "same_bytes": True}
    (tmp_path / "killed.csv").unlink()
    out.write_text("text,label\n")
    assert not killed_runs(str(tiny_onnx), file, out, [])["same_bytes"]
    with pytest.raises(SystemExit, match="ended with 2 before it was killed"):
        killed_runs(str(tmp_path / "none"), file, tmp_path / "out.csv", [60.0])


def test_ratios_by_hand() -> None:
    rounds = [{"score": 90.0, "engine": 100.0}, {"score": 99.0, "engine": 100.0}, {"score": 50.0, "engine": 40.0}]
    result = summary(rounds, {200: 110, 50: 100})
    assert result["rate_ratio"] == 0.99
    assert result["memory_ratio"] == 1.1
