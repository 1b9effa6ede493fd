"""The metrics of a bundle are those of its own predictions on the split that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.data import rows
from toolkit.bundle.format import open_bundle
from toolkit.bundle.manifest import Manifest
from toolkit.config import EvaluateConfig
from toolkit.data.datasets import load_split
from toolkit.errors import ToolkitError
from toolkit.inference.evaluate import rows_to_score, run_evaluate
from toolkit.inference.predictor import open_predictor


def test_evaluate_scores_the_split_that_was_asked_for(tiny_student: Path, data_dir: Path) -> None:
    predictor = open_predictor(tiny_student)
    for split, seed, n in (("train", 1, 320), ("dev", 2, 96)):
        table = rows(n, seed=seed)
        guesses = predictor.predict([text for text, _ in table]).argmax(axis=1)
        right = np.mean([guess == label for guess, (_, label) in zip(guesses, table, strict=True)])
        metrics = run_evaluate(EvaluateConfig(str(tiny_student), data=str(data_dir), split=split)).metrics
        assert metrics["accuracy"] == pytest.approx(right)
        assert list(metrics) == ["accuracy", "f1"]


def test_evaluate_says_what_f1_is_of(tiny_student: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_evaluate(EvaluateConfig(str(tiny_student), data=str(data_dir)))
    assert "f1 is that of positive\n" in capsys.readouterr().out


def test_evaluate_says_what_is_cut(tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "text,label\n" + "good film,positive\n" * 3 + "bad " * 62 + ",negative\n"
    (tmp_path / "dev.csv").write_text(text)
    run_evaluate(EvaluateConfig(str(tiny_student), data=str(tmp_path)))
    assert "25.0 % of the texts are longer than 32 tokens" in " ".join(capsys.readouterr().out.split())


def test_evaluate_leaves_bad_rows_out_where_the_user_says_so(tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text('text,label\n"a good film",positive\n"",negative\n"a dull plot",negative\n')
    with pytest.raises(ToolkitError, match="line 3, column 'text'"):
        run_evaluate(EvaluateConfig(str(tiny_student), data=str(tmp_path)))
    skipping = EvaluateConfig(str(tiny_student), data=str(tmp_path), skip_bad_rows=True)
    assert run_evaluate(skipping).metrics["accuracy"] in (0.0, 0.5, 1.0)


def test_every_row_of_a_file_is_scored_unless_a_split_or_a_share_is_named(
    tiny_student: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(data_dir / "dev.csv")
    name, folder = run_evaluate(EvaluateConfig(str(tiny_student), data=str(data_dir)))
    assert name == "dev"
    assert run_evaluate(EvaluateConfig(str(tiny_student), data=file)) == ("all", folder)
    assert "made from it" not in capsys.readouterr().out
    name, part = run_evaluate(EvaluateConfig(str(tiny_student), data=file, split="dev"))
    assert "dev is 10 % of its rows" in capsys.readouterr().out
    assert run_evaluate(EvaluateConfig(str(tiny_student), data=file, dev_share=0.1)) == ("dev", part)


def test_of_the_file_that_a_model_was_made_from_only_the_dev_share_is_scored(
    tiny_student: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its other rows are those that it has learnt."""
    student, file = open_bundle(tiny_student), str(data_dir / "train.csv")
    dev = load_split(student.task, "dev", file)
    capsys.readouterr()
    made_from: Manifest = {**student.manifest, "data": {"dev": dev.digest}}

    def scored(manifest: Manifest, **options: Any) -> tuple[str, str]:
        config = EvaluateConfig(str(tiny_student), data=file, **options)
        split, rows = rows_to_score(config, student.task, manifest, usual="dev")
        return split, rows.digest

    assert scored(student.manifest)[0] == "all"
    assert scored(made_from) == ("dev", dev.digest)
    assert f"only its dev rows are scored, {len(dev)}" in " ".join(capsys.readouterr().out.split())
    assert scored(made_from, split="all") == scored(student.manifest)
    assert scored(made_from, dev_share=0.5)[1] != dev.digest


def test_evaluate_refuses_a_task_of_other_labels(tiny_student: Path, data_dir: Path) -> None:
    with pytest.raises(ToolkitError, match="answers negative, positive; rte asks for entailment, not_entailment"):
        run_evaluate(EvaluateConfig(str(tiny_student), task="rte", data=str(data_dir)))


def test_evaluate_of_one_s_own_task_needs_its_data(tiny_student: Path) -> None:
    with pytest.raises(ToolkitError, match="task auto has no data of its own"):
        run_evaluate(EvaluateConfig(str(tiny_student)))
