"""The columns of the answers, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from toolkit.inference.metrics import scores
from toolkit.scoring.answers import answer_columns
from toolkit.scoring.models import Answers
from toolkit.tasks import Task

ODDS = np.array([[0.0, math.log(3)], [math.log(4), 0.0]])  # 1 to 3, and 4 to 1
SENTIMENT = Task("auto", ("bad", "good"))


def answered(logits: np.ndarray, task: Task = SENTIMENT, **more: Any) -> Answers:
    return Answers(logits, scores(logits, task.kind), **more)


def test_classification_has_a_probability_for_each_label() -> None:
    columns = {
        name: column.to_pylist() for name, column in answer_columns(SENTIMENT, answered(ODDS), raw=False).items()
    }
    assert list(columns) == ["label", "score", "probability_bad", "probability_good"]
    assert columns["label"] == ["good", "bad"]
    assert columns["score"] == pytest.approx([0.75, 0.8])
    assert columns["probability_good"] == pytest.approx([0.75, 0.2])


def test_who_answered_and_what_is_unsure_stand_beside_the_label() -> None:
    for raw in (False, True):
        answers = answered(ODDS, unsure=np.array([False, True]), models=["int8", "teacher"])
        columns = answer_columns(SENTIMENT, answers, raw=raw, taken=["model"])
        assert list(columns)[:4] == ["label", "score", "unsure", "predicted_model"]
        assert columns["unsure"].to_pylist() == [False, True]
        assert columns["predicted_model"].to_pylist() == ["int8", "teacher"]


def test_raw_gives_the_logits() -> None:
    columns = answer_columns(SENTIMENT, answered(ODDS.astype(np.float32)), raw=True)
    assert list(columns) == ["label", "score", "logit_bad", "logit_good"]
    assert columns["logit_good"].to_numpy().tolist() == ODDS.astype(np.float32)[:, 1].tolist()
    assert columns["score"].to_pylist() == pytest.approx([math.log(3), math.log(4)])


def test_multi_label_lists_every_label_above_one_half() -> None:
    task = Task("auto", ("food", "sport"), kind="multi_label")
    logits = np.array([[1.0, math.log(3)], [-1.0, -2.0]])
    columns = answer_columns(task, answered(logits, task), raw=False)
    assert columns["label"].to_pylist() == [["food", "sport"], []]
    assert columns["probability_sport"][0].as_py() == pytest.approx(0.75)
    assert columns["score"].to_pylist() == pytest.approx([0.75, 1 / (1 + math.e)])


def test_regression_is_a_number_alone() -> None:
    task = Task("auto", ("score",), kind="regression")
    columns = answer_columns(task, answered(np.array([[2.5], [-1.0]]), task), raw=False)
    assert {name: column.to_pylist() for name, column in columns.items()} == {"score": [2.5, -1.0]}


def test_a_name_of_the_input_is_not_taken() -> None:
    columns = answer_columns(SENTIMENT, answered(ODDS), raw=False, taken=["text", "label"])
    assert list(columns) == ["predicted_label", "score", "probability_bad", "probability_good"]
