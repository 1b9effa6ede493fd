"""Recent inputs, in memory only, and the comparison on them of a new model with the one that it is to replace."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.engine.tokenization import Text
from toolkit.inference.predictor import Predictor

MAX_INPUTS = 256
MAX_CHARACTERS = 4000  # of a text: more than a model's few hundred tokens need, and a bound on memory


class RecentInputs:
    """The latest MAX_INPUTS answered inputs, cut to MAX_CHARACTERS; they are never written anywhere."""

    def __init__(self) -> None:
        self._texts: deque[Text] = deque(maxlen=MAX_INPUTS)

    def add(self, texts: Sequence[Text]) -> None:
        """Add inputs and drop the oldest."""
        for text, pair in texts[-MAX_INPUTS:]:
            self._texts.append((text[:MAX_CHARACTERS], None if pair is None else pair[:MAX_CHARACTERS]))

    def texts(self) -> list[Text]:
        """Return the inputs, the oldest first."""
        return list(self._texts)


@dataclass(frozen=True)
class Comparison:
    """The differences between two models' answers to the same inputs.

    Attributes:
        compared: inputs replayed.
        agreement: fraction of inputs to which both give the same label (multi-label: the same set of labels with a
            score of 0.5 or more); None for regression, which has no labels, and when nothing was compared.
        max_score_difference: largest difference of any label's score, or of the number itself for regression.
        failed: inputs to which a model gives no finite score; these count as disagreement.
    """

    compared: int
    agreement: float | None
    max_score_difference: float | None
    failed: int


def compare(old: Predictor, new: Predictor, texts: Sequence[Text], batch_size: int) -> Comparison:
    """Run both models of a task over texts and pairs and compare their answers."""
    if not texts:
        return Comparison(0, None, None, 0)
    kind = old.task.kind
    before, after = (predictor.scores(_logits(predictor, texts, batch_size)) for predictor in (old, new))
    finite = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    agreement = None
    if kind != "regression":
        same = _decisions(before, kind) == _decisions(after, kind)
        agreement = float((same.all(axis=1) & finite).mean())
    difference = float(np.abs(before - after)[finite].max()) if finite.any() else None
    return Comparison(len(texts), agreement, difference, int((~finite).sum()))


def _decisions(values: np.ndarray, kind: str) -> np.ndarray:
    """Turn scores [n, C] into decisions: the best label's number [n, 1], or for multi-label [n, C] booleans."""
    return values >= 0.5 if kind == "multi_label" else values.argmax(axis=1, keepdims=True)


def _logits(predictor: Predictor, texts: Sequence[Text], batch_size: int) -> np.ndarray:
    """Compute logits [n, C] of texts and pairs, in their order; the tokenizer takes texts or pairs, never both."""
    out = np.full((len(texts), len(predictor.task.labels)), np.nan, dtype=np.float32)
    for paired in (False, True):
        rows = [row for row, (_, pair) in enumerate(texts) if (pair is not None) == paired]
        if rows:
            pairs = [texts[row][1] or "" for row in rows] if paired else None
            encoded = predictor.encoder.encode([texts[row][0] for row in rows], pairs)
            out[rows] = predictor.logits(encoded, batch_size)
    return out
