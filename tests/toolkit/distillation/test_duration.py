"""The time that a distillation says it will take, before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.distillation import distill
from toolkit.distillation import duration

ONCE = {"intermediate_epochs": 1, "prediction_epochs": 1}


def test_a_long_distillation_says_how_long_and_its_student_stays_the_same(
    teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = distill(teacher, data_dir, tmp_path / "silent", **ONCE)
    assert "from here" not in capsys.readouterr().out
    monkeypatch.setattr(duration, "LEAST_STEPS", 1)
    announced = distill(teacher, data_dir, tmp_path / "announced", **ONCE)
    time = r"\d+\.\d (s|min)"
    line = rf"about {time} from here, going by 6 steps: {time} for stage a, {time} for the teacher's answers, "
    assert re.search(rf"{line}{time} for stage b\n", capsys.readouterr().out)
    assert announced["files"]["model.safetensors"] == silent["files"]["model.safetensors"]


def test_only_the_stages_that_run_are_counted(
    teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(duration, "LEAST_STEPS", 1)
    distill(teacher, data_dir, tmp_path / "a", loss="prediction=0", **ONCE)
    assert re.search(r"going by 6 steps: \S+ \S+ for stage a\n", capsys.readouterr().out)


def test_answers_that_a_file_has_take_no_time(
    teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(duration, "LEAST_STEPS", 1)
    kept = {"teacher_scores": str(tmp_path / "answers.parquet"), **ONCE}
    distill(teacher, data_dir, tmp_path / "a", **kept)
    assert "for the teacher's answers" in capsys.readouterr().out
    distill(teacher, data_dir, tmp_path / "b", **kept)
    assert re.search(r"going by 6 steps: \S+ \S+ for stage a, \S+ \S+ for stage b\n", capsys.readouterr().out)


def test_a_run_that_goes_on_does_not_count_from_its_start_again(
    teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(duration, "LEAST_STEPS", 1)
    interrupt = pytest.raises(KeyboardInterrupt)
    with monkeypatch.context() as broken, interrupt:
        broken.setattr("toolkit.distillation.distill.train_prediction", _stop)
        distill(teacher, data_dir, tmp_path / "s", **ONCE)
    assert "from here" in capsys.readouterr().out
    distill(teacher, data_dir, tmp_path / "s", **ONCE)
    assert "from here" not in capsys.readouterr().out


def _stop(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt
