"""A student learns from a file of answers alone as it does from the teacher that gave them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.data import rows, write_csv
from toolkit.bundle.format import open_bundle
from toolkit.cli.main import app
from toolkit.config import DistillConfig, ScoreConfig
from toolkit.distillation.distill import run_distill
from toolkit.distillation.seeds import run_seeds
from toolkit.distillation.teacher import Teacher
from toolkit.errors import ToolkitError
from toolkit.scoring.score import run_score
from toolkit.tasks import Task


@pytest.fixture(scope="module")
def answers(teacher: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's answers to train and dev, with the labels of both."""
    out = tmp_path_factory.mktemp("answers") / "answers.parquet"
    files = (str(data_dir / "train.csv"), str(data_dir / "dev.csv"))
    run_score(ScoreConfig(str(teacher), str(out), input=files, workers=1))
    return out


def test_from_a_file_to_a_student_that_starts_as_a_projection(
    answers: Path, teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student"
    config = DistillConfig(
        None, "auto", str(out), teacher_scores=str(answers), init=str(teacher), data=str(data_dir),
        student="2/16/32/4", intermediate_epochs=1, prediction_epochs=2, prediction_lr=2e-3,
    )  # fmt: skip
    run_distill(config)
    output, bundle = capsys.readouterr().out, open_bundle(out)
    assert bundle.manifest["start_metrics"]["accuracy"] > 0.75, "the fitted head"
    assert bundle.manifest["metrics"]["accuracy"] > 0.95
    assert bundle.manifest["agreement"] > 0.95
    assert list(bundle.manifest["stages"]) == ["intermediate", "prediction"], "an encoder has layers to learn"
    assert bundle.manifest["made_from"]["start"]["name"] == str(teacher)
    assert f"it is projected from, and the answers of {answers}" in output
    assert (
        f"distilling {bundle.task.name} (2 classes: negative, positive): 256 texts, 64 of train choose the step, "
        "96 of dev are reported; layers (2, 3)" in output
    )
    assert f"gives the teacher's answer to {100 * bundle.manifest['agreement']:.1f} % of 96 dev rows" in output
    report = json.loads((out / "report.json").read_text())
    assert "teacher" not in report
    assert report["encoder"]["shape"] == "3/24/48/4"
    assert report["agreement"] == bundle.manifest["agreement"]
    page = (out / "report.html").read_text()
    assert "agreement with the teacher" in page
    assert f"teacher {answers}" in page


def test_a_file_gives_the_student_that_its_teacher_gives(
    teacher: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the same rows choose the step the student is the same to the bit, so a file is all that has to travel."""
    texts, sizes = list(dict.fromkeys(rows(700, seed=5))), {"train": 200, "dev": 40, "test": 40}
    for split, size in sizes.items():
        write_csv(tmp_path / f"{split}.csv", [texts.pop() for _ in range(size)])
    answers = str(tmp_path / "answers.parquet")
    options = {
        "data": str(tmp_path), "teacher_scores": answers, "init": str(encoder), "student": "2/16/32/4",
        "intermediate_epochs": 1, "prediction_epochs": 1, "prediction_lr": 2e-3,
    }  # fmt: skip
    first = run_distill(DistillConfig(str(teacher), "auto", str(tmp_path / "at-hand"), **options))  # type: ignore[arg-type]
    assert "the student gives the teacher's answer to" in capsys.readouterr().out
    second = run_distill(DistillConfig(None, "auto", str(tmp_path / "by-file"), **options))  # type: ignore[arg-type]
    weights = [(bundle.path / "model.safetensors").read_bytes() for bundle in (first, second)]
    assert weights[0] == weights[1]
    assert first.manifest["metrics"] == second.manifest["metrics"]
    assert first.manifest["agreement"] > 0.5
    assert "agreement" not in second.manifest, "the file has no answers to dev"


def test_layers_of_a_start_that_is_the_student_itself_are_refused(
    answers: Path, encoder: Path, data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ToolkitError, match=r"answers only: a file has no layers; --intermediate-epochs 2 cannot be"):
        run_distill(DistillConfig(
            None, "auto", str(tmp_path / "student"), teacher_scores=str(answers), init=str(encoder),
            data=str(data_dir), student="3/24/48/4", intermediate_epochs=2,
        ))  # fmt: skip


def test_agreement_is_counted_where_the_teacher_answered() -> None:
    right = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    teacher = Teacher(Task("auto", ("a", "b")), {}, lambda: right, lambda: 0, np.array([0, 2, 3]), right)
    student = np.eye(2, dtype=np.float32)[[0, 0, 1, 0]]  # the second row has no answer, the last one another
    assert teacher.agreement(student) == pytest.approx(2 / 3)
    assert replace(teacher, dev_rows=np.array([], dtype=int), dev_logits=right[:0]).agreement(student) is None


def test_labels_alone_from_the_command_line(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    with (data_dir / "train.csv").open(encoding="utf-8", newline="") as file:
        labelled = list(csv.DictReader(file))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    result = CliRunner().invoke(app, [
        "distill", "--teacher-scores", str(log), "--task", "auto", "--init", "random", "--student-tokenizer",
        str(encoder), "--student", "2/16/32/4", "--prediction-epochs", "6", "--prediction-lr", "5e-3", "--smoothing",
        "0.2", "--out", str(tmp_path / "student"),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "has labels alone: each is read as a probability of 0.8 (--smoothing)" in result.output
    assert "with the teacher's own answers as labels" in result.output
    bundle = open_bundle(tmp_path / "student")
    assert (bundle.task.name, bundle.task.labels) == ("log", ("negative", "positive"))
    assert bundle.manifest["agreement"] == bundle.manifest["metrics"]["accuracy"] > 0.75


def test_seeds_of_a_file_that_has_no_answers_to_dev(
    encoder: Path, answers: Path, data_dir: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(answers).slice(0, 200), tmp_path / "train.parquet")
    summary = run_seeds(DistillConfig(
        None, "auto", str(tmp_path / "many"), teacher_scores=str(tmp_path / "train.parquet"), init=str(encoder),
        data=str(data_dir), seeds="1,2", student="2/16/32/4", prediction_epochs=1,
    ))  # fmt: skip
    assert list(summary["mean"]) == ["start", "student"]
    assert [row["seed"] for row in summary["seeds"]] == [1, 2]
