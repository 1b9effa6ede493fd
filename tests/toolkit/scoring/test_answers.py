"""The columns of the answers, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.scoring.answers import answer_columns
from toolkit.tasks import Task

ODDS = np.array([[0.0, math.log(3)], [math.log(4), 0.0]])  # 1 to 3, and 4 to 1
SENTIMENT = Task("auto", ("bad", "good"))


def test_classification_has_a_probability_for_each_label() -> None:
    columns = {name: column.to_pylist() for name, column in answer_columns(SENTIMENT, ODDS, raw=False).items()}
    assert list(columns) == ["label", "score", "probability_bad", "probability_good"]
    assert columns["label"] == ["good", "bad"]
    assert columns["score"] == pytest.approx([0.75, 0.8])
    assert columns["probability_good"] == pytest.approx([0.75, 0.2])


def test_an_answer_below_its_label_s_threshold_is_unsure_with_logits_too() -> None:
    for raw in (False, True):
        columns = answer_columns(SENTIMENT, ODDS, raw=raw, thresholds=np.array([0.81, 0.75]))  # bad, good
        assert list(columns)[:3] == ["label", "score", "unsure"]
        assert columns["unsure"].to_pylist() == [False, True]
    calm = answer_columns(SENTIMENT, ODDS, raw=True, scale=0.5, thresholds=np.array([0.0, 0.75]))
    assert calm["unsure"].to_pylist() == [True, False], "by the calibrated score"


def test_raw_gives_the_logits() -> None:
    columns = answer_columns(SENTIMENT, ODDS.astype(np.float32), raw=True)
    assert list(columns) == ["label", "score", "logit_bad", "logit_good"]
    assert columns["logit_good"].to_numpy().tolist() == ODDS.astype(np.float32)[:, 1].tolist()
    assert columns["score"].to_pylist() == pytest.approx([math.log(3), math.log(4)])


def test_multi_label_lists_every_label_above_one_half() -> None:
    task = Task("auto", ("food", "sport"), kind="multi_label")
    logits = np.array([[1.0, math.log(3)], [-1.0, -2.0]])
    columns = answer_columns(task, logits, raw=False)
    assert columns["label"].to_pylist() == [["food", "sport"], []]
    assert columns["probability_sport"][0].as_py() == pytest.approx(0.75)
    assert columns["score"].to_pylist() == pytest.approx([0.75, 1 / (1 + math.e)])


def test_regression_is_a_number_alone() -> None:
    task = Task("auto", ("score",), kind="regression")
    columns = answer_columns(task, np.array([[2.5], [-1.0]]), raw=False)
    assert {name: column.to_pylist() for name, column in columns.items()} == {"score": [2.5, -1.0]}


def test_a_name_of_the_input_is_not_taken() -> None:
    columns = answer_columns(SENTIMENT, ODDS, raw=False, taken=["text", "label"])
    assert list(columns) == ["predicted_label", "score", "probability_bad", "probability_good"]
