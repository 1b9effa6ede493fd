"""Models are scored on each labelled split, and chosen by rows that are not reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.data.datasets import resolve_task
from toolkit.data.splits import load_splits
from toolkit.data.tokenization import TextEncoder
from toolkit.inference.metrics import evaluate
from toolkit.training.distributed import model_logits
from toolkit.training.scoring import SplitScorer


def test_every_split_is_scored_by_its_own_rows(
    tiny_bert: Callable[..., Any], tiny_student: Path, data_dir: Path
) -> None:
    task, model, encoder = resolve_task("auto", data_dir), tiny_bert(), TextEncoder(tiny_student, 32)
    splits = load_splits(task, str(data_dir), selection_rows=None, max_rows=None, seed=3)
    assert splits.selection is not None

    def scored(split: Any) -> dict[str, float]:
        return evaluate(task, model_logits(model, encoder.encode(split.texts, split.pairs)), split.labels)

    scorer = SplitScorer(task, splits, encoder)
    assert scorer.scores(model) == {"dev": scored(splits.dev)}
    own = scorer.scores_of(scorer.logits(model))["dev"]
    assert own["metrics"] == scored(splits.dev)
    right = sum(score["recall"] * score["rows"] for score in own["by_class"].values())
    assert right / len(splits.dev) == pytest.approx(scored(splits.dev)["accuracy"])
    known = np.tile([9.0, -9.0], (96, 1))
    assert (scorer.logits(model, known)["dev"] != known).any(), "these rows are not those that judge a teacher"
    metric = scorer.selection_metric(model)
    assert metric is not None
    assert metric() == scored(splits.selection)["accuracy"]
    assert scorer.selection == {"split": "train", "rows": 64}
    assert scorer.judged(model, "rows").shape == (64, 2)
    with_test = SplitScorer(task, replace(splits, drawn=np.empty(0), selection=splits.dev, test=splits.learnt), encoder)
    assert with_test.scores(model) == {"dev": scored(splits.dev), "test": scored(splits.learnt)}
    assert with_test.selection == {"split": "dev", "rows": 96}
    assert with_test.truncation["test"].texts == 256
    unchosen = SplitScorer(task, replace(splits, drawn=np.empty(0), selection=None), encoder)
    assert unchosen.selection_metric(model) is None
    assert unchosen.selection is None
    assert unchosen.judged(model, "rows").shape == (320, 2), "train's rows judge the teacher"
