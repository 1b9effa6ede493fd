"""The best labels of a text, and of each line of a stream, in its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import RANKS, save_arithmetic
from tests.support.calibrating import calibration
from toolkit.errors import ToolkitError
from toolkit.inference.predict import LINES, predict_lines
from toolkit.inference.predictor import best_labels, open_predictor
from toolkit.tasks import Task


def test_labels_are_ranked_and_equal_scores_keep_their_order() -> None:
    task = Task("t", ("a", "b", "c", "d"))
    assert best_labels(task, np.array([0.1, 0.4, 0.1, 0.4]), 3) == [("b", 0.4), ("d", 0.4), ("a", 0.1)]
    assert len(best_labels(task, np.arange(4.0), 9)) == 4


def test_lines_are_answered_as_they_come_and_as_one_text_is(tiny_onnx: Path) -> None:
    """Blank lines are skipped; a stream without an end is answered a group at a time."""
    predictor = open_predictor(tiny_onnx, threads=1)
    texts = ["a good film", "a dull plot", "bad"]
    scores = predictor.predict(texts)
    answers = list(predict_lines(predictor, [f"{texts[0]}\n", "\n", f"{texts[1]}\r\n", texts[2]], 2))
    for answer, text, row in zip(answers, texts, scores, strict=True):
        (first, a), (second, b) = best_labels(predictor.task, row, 2)
        assert answer == f"{first} {a:.4f}, {second} {b:.4f}\t{text}"
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "a good film\n"

    assert next(predict_lines(predictor, endless(), 2)) == answers[0]
    assert read == LINES


def test_a_line_below_its_label_s_threshold_is_unsure(overconfident: Path) -> None:
    predictor = open_predictor(overconfident, threads=1)
    best = predictor.predict(["a good film"]).max()
    promise: Any = {"kind": "accurate", "share": 0.9, "confidence": 0.9, "coverage": 0.5}
    for threshold, said in ((best - 0.001, ""), (best + 0.001, " (unsure)"), (None, " (unsure)")):
        label = predictor.classify(["a good film"])[0][0].label
        own = [threshold if name == label else 0.0 for name in predictor.task.labels]
        predictor.calibration = {**calibration(2.5), "label_thresholds": [{**promise, "thresholds": own}]}
        assert list(predict_lines(predictor, ["a good film"], 1)) == [f"{label} {best:.4f}{said}\ta good film"]


def test_pairs_have_a_tab_between_them_and_bad_lines_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    task = Task("t", tuple(f"label-{i}" for i in range(30)), pair_column="text_pair")
    predictor = open_predictor(save_arithmetic(tmp_path / "pairs", tokenizer, RANKS, task=task))
    (answer,) = predict_lines(predictor, ["a\tb\n"], 1)
    assert answer.startswith("label-29 0.")
    assert answer.endswith("\ta\tb")
    with pytest.raises(ToolkitError, match="line 2: the task t is about pairs") as caught:
        list(predict_lines(predictor, ["\n", "a\n"], 1))
    assert caught.value.expected == "two texts with a tab between them"
