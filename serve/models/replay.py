"""What was asked lately, in memory only, to compare a new model with the one it is to replace."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.engine.tokenization import Text
from toolkit.inference.predictor import Predictor
from toolkit.metrics import scores

KEPT = 256  # inputs
KEPT_CHARACTERS = 4000  # of a text: more than a model's few hundred tokens need, and a bound on memory


class RecentInputs:
    """The latest KEPT inputs that were answered, cut to KEPT_CHARACTERS; they are never written anywhere."""

    def __init__(self) -> None:
        self._texts: deque[Text] = deque(maxlen=KEPT)

    def add(self, texts: Sequence[Text]) -> None:
        """Remember these, forgetting the oldest."""
        for text, pair in texts[-KEPT:]:
            self._texts.append((text[:KEPT_CHARACTERS], None if pair is None else pair[:KEPT_CHARACTERS]))

    def texts(self) -> list[Text]:
        """Those remembered, oldest first."""
        return list(self._texts)


@dataclass(frozen=True)
class Comparison:
    """How far two models' answers to the same inputs lie apart.

    Attributes:
        compared: inputs replayed.
        agreement: share of them to which both give the same label (multi-label: the same set of labels with a score
            of 0.5 or more); None for regression, which has none, and when nothing was compared.
        max_score_difference: largest difference of any label's score, or of the number itself for regression.
        failed: inputs to which the new model gives no finite score; they agree with nothing.
    """

    compared: int
    agreement: float | None
    max_score_difference: float | None
    failed: int


def compare(old: Predictor, new: Predictor, texts: Sequence[Text], batch_size: int) -> Comparison:
    """Run both models of one task over texts and pairs and hold their answers together."""
    if not texts:
        return Comparison(0, None, None, 0)
    kind = old.task.kind
    before, after = (scores(_logits(one, texts, batch_size), kind) for one in (old, new))
    finite = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    agreement = None
    if kind != "regression":
        chosen = (_chosen(before, kind), _chosen(after, kind))
        agreement = float(((chosen[0] == chosen[1]).all(axis=1) & finite).mean())
    difference = float(np.abs(before - after)[finite].max()) if finite.any() else None
    return Comparison(len(texts), agreement, difference, int((~finite).sum()))


def _chosen(values: np.ndarray, kind: str) -> np.ndarray:
    """Scores [n, C] to what a client takes from them: the best label's number [n, 1], or [n, C] booleans."""
    return values >= 0.5 if kind == "multi_label" else values.argmax(axis=1, keepdims=True)


def _logits(predictor: Predictor, texts: Sequence[Text], batch_size: int) -> np.ndarray:
    """Logits [n, C] of texts and pairs, in their order; the tokenizer is told the two kinds apart."""
    out = np.full((len(texts), len(predictor.task.labels)), np.nan, dtype=np.float32)
    for paired in (False, True):
        rows = [row for row, (_, pair) in enumerate(texts) if (pair is not None) == paired]
        if rows:
            pairs = [texts[row][1] or "" for row in rows] if paired else None
            encoded = predictor.encoder.encode([texts[row][0] for row in rows], pairs)
            out[rows] = predictor.logits(encoded, batch_size)
    return out
