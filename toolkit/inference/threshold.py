"""Thresholds with a guarantee: the confidence from which on a model's answers are right, or agree, often enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CANDIDATES = 20  # thresholds that are tried: each must be surer by this factor (Bonferroni)


@dataclass(frozen=True)
class Threshold:
    """What holds from a confidence on.

    Attributes:
        threshold: answers of this confidence or more are taken.
        coverage: fraction of the rows whose answer is taken.
        share: fraction of those that is right.
        bound: with the asked confidence, at least so many of all future ones are right.
    """

    threshold: float
    coverage: float
    share: float
    bound: float


def candidates(confidence: np.ndarray) -> np.ndarray:
    """Give at most CANDIDATES thresholds, ascending: quantiles of confidences [m] of rows that test none of them."""
    return np.unique(np.quantile(confidence, np.arange(CANDIDATES) / CANDIDATES))


def least_share(right: int, rows: int, doubt: float) -> float:
    """Bound a fraction from below: the one-sided Clopper-Pearson bound, too high with a probability of at most `doubt`.

    Source: Clopper and Pearson 1934; the bound is the `doubt` quantile of Beta(right, rows - right + 1).
    """
    from scipy.stats import beta

    return float(beta.ppf(doubt, right, rows - right + 1)) if right else 0.0


def find_threshold(
    thresholds: np.ndarray, confidence: np.ndarray, right: np.ndarray, *, share: float, certainty: float
) -> tuple[Threshold | None, Threshold | None]:
    """Find the lowest threshold from which on the answers are right often enough.

    Of K thresholds, fixed before, each has a bound that is wrong with a probability of at most (1 - certainty) / K, so
    that over draws of rows all hold together with `certainty`, the chosen one among them (Bonferroni; Learn then Test,
    Angelopoulos et al. 2021, arXiv 2110.01052, section 1.1).

    Args:
        thresholds: [K], from other rows.
        confidence, right: [n] of the rows that test them.
        share: fraction that has to be right.
        certainty: probability of the promise.

    Returns:
        The threshold or None, and the one with the highest bound; None where no threshold has an answer.
    """
    doubt, tested = (1 - certainty) / len(thresholds), []
    for threshold in thresholds.tolist():
        taken = confidence >= threshold
        if rows := int(taken.sum()):
            good = int(right[taken].sum())
            tested.append(Threshold(threshold, rows / len(right), good / rows, least_share(good, rows, doubt)))
    holding = [own for own in tested if own.bound >= share]
    return (holding[0] if holding else None), max(tested, key=lambda own: own.bound, default=None)
