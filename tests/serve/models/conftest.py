"""A first model that is unsure of half of its texts, and a second one whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import RANKS, save_arithmetic
from tests.support.data import rows
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import Task

TEXTS = [text for text, _ in rows(12, seed=5)]


@pytest.fixture(scope="module")
def scores(overconfident: Path) -> np.ndarray:
    """Best scores of TEXTS by the first model, [12]."""
    best: np.ndarray = open_predictor(overconfident, threads=1).predict(TEXTS).max(axis=1)
    return best


@pytest.fixture(scope="module")
def threshold(scores: np.ndarray) -> float:
    return float(np.median(scores))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Logits 0 of positive and 1 of negative, the other way round than the first model's labels."""
    task = Task("auto", ("positive", "negative"), metrics=("accuracy",))
    graph = RANKS.replace("30", "2")
    return save_arithmetic(tmp_path_factory.mktemp("second") / "big", tokenizer, graph, task=task)


def says_negative(path: str, body: dict[str, Any]) -> Any:
    """The same answers from an endpoint: negative with 0.75."""
    texts = body.get("inputs", body.get("input"))
    if path.endswith("/classify"):
        return {
            "data": [{"index": i, "label": "negative", "probs": [0.75, 0.25]} for i in range(len(texts))][::-1]
        }  # fmt: skip
    assert body["raw_scores"] is False
    return [[{"label": "negative", "score": 0.75}, {"label": "positive", "score": 0.25}] for _ in texts]
