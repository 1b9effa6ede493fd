"""Hugging Face classifiers as they are: their kind, and what is no trained classifier or brings code of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.data import rows
from toolkit.errors import ToolkitError
from toolkit.inference.hugging_face import kind_of, open_hugging_face
from toolkit.inference.predictor import open_predictor

TEXTS = [text for text, _ in rows(8, seed=5)]


def test_a_plain_directory_answers_as_the_bundle_of_its_weights(
    tiny_student: Path, tmp_path: Path, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> None:
    plain = save_model(tiny_bert(), tmp_path / "plain")
    classifier = open_hugging_face(str(plain), threads=0)
    np.testing.assert_allclose(classifier.predict(TEXTS), open_predictor(tiny_student).predict(TEXTS), atol=1e-5)
    assert (classifier.task.labels, classifier.thresholds) == (("negative", "positive"), None)
    other = save_model(tiny_bert(1), tmp_path / "other")
    assert classifier.digest == open_hugging_face(str(plain), threads=0).digest
    assert classifier.digest != open_hugging_face(str(other), threads=0).digest


def test_code_of_its_own_is_never_run(
    tmp_path: Path, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> None:
    plain = save_model(tiny_bert(), tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.M"},
    }
    (plain / "config.json").write_text(json.dumps(config))
    (plain / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ToolkitError, match="never run"):
        open_hugging_face(str(plain), threads=0)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("problem_type", "labels", "kind"),
    [
        (None, 2, "classification"), (None, 1, "regression"), ("regression", 1, "regression"),
        ("multi_label_classification", 3, "multi_label"), ("single_label_classification", 3, "classification"),
    ],
)  # fmt: skip
def test_the_kind_is_as_transformers_reads_it(problem_type: str | None, labels: int, kind: str) -> None:
    assert kind_of(problem_type, labels) == kind


def test_several_numbers_are_no_answer() -> None:
    with pytest.raises(ToolkitError, match="gives 2 numbers"):
        kind_of("regression", 2)
