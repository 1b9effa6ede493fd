"""A student learns a task from a file of answers alone, as well as from the teacher that gave them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.bundle.format import open_bundle
from toolkit.cli.main import app
from toolkit.config import DistillConfig, ScoreConfig
from toolkit.distillation.from_scores import run_from_scores
from toolkit.distillation.seeds import run_seeds
from toolkit.scoring.score import run_score


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
        student="2/16/32/4", prediction_epochs=2, prediction_lr=2e-3,
    )  # fmt: skip
    run_from_scores(config)
    output, bundle = capsys.readouterr().out, open_bundle(out)
    assert bundle.manifest["start_metrics"]["accuracy"] > 0.75, "the fitted head"
    assert bundle.manifest["metrics"]["accuracy"] > 0.95
    assert bundle.manifest["agreement"] > 0.95
    assert set(bundle.manifest["stages"]) == {"prediction"}
    assert bundle.manifest["made_from"]["start"]["name"] == str(teacher)
    assert (
        f"learning {bundle.task.name} from {answers}: 256 texts, 64 of train choose the step, 96 of dev are reported"
        in output
    )
    assert f"gives the teacher's answer to {100 * bundle.manifest['agreement']:.1f} % of 96 dev rows" in output
    report = json.loads((out / "report.json").read_text())
    assert "teacher" not in report
    assert report["agreement"] == bundle.manifest["agreement"]
    page = (out / "report.html").read_text()
    assert "agreement with the teacher" in page
    assert f"teacher {answers}" in page


def test_labels_alone_from_the_command_line(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    with (data_dir / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
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
