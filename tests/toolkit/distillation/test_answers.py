"""Answers of any form become logits that stand for them; what is no answer is named by its line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.distillation.answers import Answers, read_answers
from toolkit.errors import ToolkitError
from toolkit.inference.metrics import softmax
from toolkit.tasks import Task

TASK = Task("auto", ("good", "bad"))


def read(tmp_path: Path, *rows: dict[str, Any], task: Task | None = None, **options: Any) -> Answers:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_answers(path, task, **options)


def test_probabilities_come_back_out_of_their_logits(tmp_path: Path) -> None:
    answers = read(tmp_path, {"text": "a", "probability_bad": 0.2, "probability_good": 0.8},
                   {"text": "b", "probability_bad": 1.0, "probability_good": 0.0}, task=TASK)  # fmt: skip
    assert answers.task is TASK
    np.testing.assert_allclose(softmax(answers.logits), [[0.8, 0.2], [0, 1]], atol=1e-6)
    assert np.isfinite(answers.logits).all()


def test_logits_are_taken_as_they_are_and_win_over_probabilities(tmp_path: Path) -> None:
    row = {"text": "a", "text_pair": "b", "logit_bad": -3.5, "logit_good": 2.0, "probability_bad": 1.0, "label": "bad"}
    answers = read(tmp_path, row)
    assert answers.task.labels == ("bad", "good")
    assert answers.logits.tolist() == [[-3.5, 2.0]]
    assert answers.inputs == [("a", "b")]
    assert not answers.hard
    assert answers.gold is None, "label is the answer's own unless predicted_label stands beside it"
    assert read(tmp_path, row | {"predicted_label": "good"}).gold == ["bad"]


def test_labels_alone_are_smoothed(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in (("x", "a"), ("y", "b"), ("z", "c"))]
    answers = read(tmp_path, *rows, smoothing=0.1)
    assert answers.hard
    np.testing.assert_allclose(softmax(answers.logits)[1], [0.05, 0.9, 0.05], atol=1e-6)
    several = read(tmp_path, {"text": "x", "label": ["a", "b"]}, {"text": "y", "label": []}, smoothing=0.1)
    assert several.task.kind == "multi_label"
    np.testing.assert_allclose(several.logits, np.log(9) * np.array([[1, 1], [-1, -1]]), rtol=1e-5)


def test_several_labels_at_once_and_numbers(tmp_path: Path) -> None:
    both = read(tmp_path, {"text": "x", "probability_a": 0.75, "probability_b": 0.75, "label": ["a", "b"]})
    assert both.task.kind == "multi_label"
    np.testing.assert_allclose(both.logits, [[math.log(3), math.log(3)]], rtol=1e-5)
    for name in ("score", "logit_score"):
        numbers = read(tmp_path, {"text": "x", name: 2.5})
        assert (numbers.task.kind, numbers.task.labels, numbers.logits.tolist()) == ("regression", ("score",), [[2.5]])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"probability_good": 0.7, "probability_bad": 0.7}, "line 2, sum of the probabilities: 1.400, expected 1"),
        ({"probability_good": 1.2, "probability_bad": -0.2}, "column 'probability_good': 1.2, expected 0 to 1"),
        ({"logit_good": "high", "logit_bad": 0}, "line 2, column 'logit_good': 'high', expected a number"),
        ({"label": "so-so"}, "line 2, column 'label': 'so-so', expected one of good, bad"),
    ],
)
def test_a_row_that_is_no_answer_is_named(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    good = {"probability_good": 1, "probability_bad": 0, "logit_good": 1, "logit_bad": 0, "label": "good"}
    rows = {"text": "fine", **{name: good[name] for name in row}}, {"text": "not", **row}
    with pytest.raises(ToolkitError) as caught:
        read(tmp_path, *rows, task=TASK)
    assert problem in caught.value.problem
    assert len(read(tmp_path, *rows, task=TASK, skip_bad=True)) == 1


def test_files_without_answers_or_with_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="no such file") as caught:
        read_answers(tmp_path / "gone.parquet")
    assert caught.value.fix.startswith("toolkit score TEACHER")
    with pytest.raises(ToolkitError, match="has no answers; its columns are 'text', 'id'"):
        read(tmp_path, {"text": "x", "id": 1})
    with pytest.raises(ToolkitError, match="answers yes, no; auto asks for good, bad"):
        read(tmp_path, {"text": "x", "logit_yes": 1, "logit_no": 0}, task=TASK)
