"""The yardstick learns words, is bounded, and leaves out what it cannot score."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.data.datasets import Split
from toolkit.tasks import Task
from toolkit.training import reference
from toolkit.training.reference import word_score, yardsticks

TASK = Task("t", ("a", "b", "c"))


def split(texts: list[str], labels: list[int], pairs: list[str] | None = None) -> Split:
    return Split(texts, pairs, np.array(labels), "here")


TRAIN = split(["red one", "green two", "blue one"] * 10, [0, 1, 2] * 10)


def test_words_decide_and_nothing_else() -> None:
    assert word_score(TASK, TRAIN, split(["some red", "blue it is", "green", "green"], [0, 2, 1, 0])) == 0.75
    second = split(["same"] * 30, [0, 1, 2] * 10, ["red", "green", "blue"] * 10)
    assert word_score(TASK, second, split(["same"] * 2, [2, 0], ["blue", "red"])) == 1.0


def test_yardsticks_are_in_percent_and_words_only_where_they_decide() -> None:
    scored = split(["some red", "blue it is", "green", "green"], [0, 2, 1, 0])
    assert yardsticks(TASK, TRAIN, scored) == "tf-idf and logistic regression: 75.00; always the same answer: 50.00"
    assert yardsticks(Task("r", ("score",), kind="regression"), TRAIN, scored) == "always the same answer: 0.00"


def test_a_class_that_train_lacks_is_never_answered() -> None:
    two = split(["red", "blue"] * 10, [0, 2] * 10)
    assert word_score(TASK, two, split(["red", "green"], [0, 1])) == 0.5


def test_a_class_for_each_row_warns_of_nothing() -> None:
    """scikit-learn would say on standard error that this is a regression; a warning fails a test."""
    task = Task("many", tuple(map(str, range(20))))
    rows = split([f"text {'abcdefghijklmnopqrst'[i]}b" for i in range(20)], list(range(20)))
    assert word_score(task, rows, rows) == 1.0


def test_what_has_no_words_or_no_classes_has_no_score() -> None:
    assert word_score(TASK, split(["?", "!"] * 5, [0, 1] * 5), TRAIN) is None
    assert word_score(TASK, split(["red"] * 4, [0] * 4), TRAIN) is None
    assert word_score(Task("r", ("score",), kind="regression"), TRAIN, TRAIN) is None


def test_rows_and_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word that decides stands behind the bound; the rows beyond it are wrong."""
    long = split([f"{'pad ' * 600}{word}" for word in ("red", "blue")] * 10, [0, 2] * 10)
    assert word_score(TASK, long, split(["red", "blue"], [0, 2])) == 0.5
    monkeypatch.setattr(reference, "ROWS", 4)
    seen: list[int] = []
    whole = Split.subsample
    monkeypatch.setattr(Split, "subsample", lambda own, rows, seed: seen.append(rows) or whole(own, rows, seed))
    word_score(TASK, TRAIN, TRAIN)
    assert seen == [4]
