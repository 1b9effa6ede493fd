"""Temperatures: the one number, or one for each label of a multi-label task, that calibrates a model's scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolkit.bundle.calibration import LEAST_TEMPERATURE, MOST_TEMPERATURE
from toolkit.inference.metrics import softmax
from toolkit.tasks import Kind


def fit_temperatures(logits: np.ndarray, labels: np.ndarray, kind: Kind) -> np.ndarray:
    """Find the temperatures t that minimise the log loss of softmax(z / t), or of sigmoid(z_c / t_c) for each label.

    A temperature is above 0, so the best label stays the best one, and a label's logit on its side of 0: Platt's fit
    has a shift besides, which would move labels. The targets are Platt's too, (N + 1) / (N + 2) in place of 1, so that
    rows without an error do not state certainty. The loss is convex in 1 / t.

    Args:
        logits: [n, C] of rows that the model has not seen.
        labels: class numbers [n], or 0 and 1 [n, C] for multi_label.
        kind: "classification" or "multi_label".

    Returns:
        [1] or [C], within the bounds of a bundle's calibration.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 4.2; Platt 1999, section 2.2.
    """
    logits = logits.astype(np.float64)
    if kind == "multi_label":
        return np.array([_of_label(*column) for column in zip(logits.T, labels.T, strict=True)])
    rows, classes = logits.shape
    wrong = 1 / (rows + 2)
    targets = np.full(logits.shape, wrong / max(1, classes - 1))
    targets[np.arange(rows), labels] = 1 - wrong
    aim = (targets * logits).sum()
    return np.array([_root(lambda scale: float((softmax(scale * logits) * logits).sum() - aim))])


def _of_label(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature of a label from its logits [n] and whether each row has it [n]."""
    with_it = int(labels.sum())
    targets = np.where(labels == 1, (with_it + 1) / (with_it + 2), 1 / (len(labels) - with_it + 2))
    halves = logits / 2  # 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, without overflow
    return _root(lambda scale: float((((1 + np.tanh(scale * halves)) / 2 - targets) * logits).sum()))


def _root(slope: Callable[[float], float]) -> float:
    """Find the temperature whose inverse makes the ascending slope of the loss 0; the bound where none does."""
    from scipy.optimize import brentq

    least, most = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    if slope(least) >= 0:
        return MOST_TEMPERATURE
    if slope(most) <= 0:
        return LEAST_TEMPERATURE
    return 1 / float(brentq(slope, least, most, xtol=1e-6))
