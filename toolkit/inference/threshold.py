"""Thresholds with a guarantee: the confidence from which on a model's answers are right, or agree, often enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CANDIDATES = 20  # thresholds that are tried
STARTS = 3  # of them, from which testing goes down; each start has this part of the doubt


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

    K thresholds, fixed before, are tested in a fixed order: from each of STARTS places in the list downwards until one
    fails. A threshold is tested only where those above it have held, so that a whole sequence is wrong with no more
    than the probability of one test, (1 - certainty) / STARTS, and all of them with 1 - certainty over draws of rows
    (fixed sequence testing; Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052, algorithm 1). Twenty tests
    that share the doubt (Bonferroni) take fewer answers.

    Args:
        thresholds: [K], ascending, from other rows.
        confidence, right: [n] of the rows that test them.
        share: fraction that has to be right.
        certainty: probability of the promise.

    Returns:
        The threshold or None, and the one with the highest bound; None where no threshold has an answer.
    """
    doubt = (1 - certainty) / STARTS
    tested = [_test(threshold, confidence, right, doubt) for threshold in thresholds.tolist()]
    lowest: int | None = None
    for start in range(1, STARTS + 1):
        at = min(len(tested) * start // (STARTS + 1), len(tested) - 1)
        while at >= 0 and tested[at].bound >= share:
            lowest = at if lowest is None else min(lowest, at)
            at -= 1
    answering = [threshold for threshold in tested if threshold.coverage > 0]
    nearest = max(answering, key=lambda threshold: threshold.bound, default=None)
    return (None if lowest is None else tested[lowest]), nearest


def label_candidates(answers: np.ndarray, confidence: np.ndarray, labels: int) -> list[np.ndarray]:
    """Give `candidates` for each of the labels, by the rows that are answered with it; none for one that has no rows.

    Args:
        answers, confidence: number and score of the best label of m rows, which test nothing.
        labels: C.
    """
    by_label = (confidence[answers == label] for label in range(labels))
    return [candidates(scores) if len(scores) else scores for scores in by_label]


def find_label_thresholds(
    grids: Sequence[np.ndarray], answers: np.ndarray, confidence: np.ndarray, right: np.ndarray, *, share: float,
    certainty: float,
) -> list[Threshold | None]:  # fmt: skip
    """Find for each label the lowest threshold from which on its own answers are right often enough.

    The rows that are answered with a label are a sample of such answers, and test its threshold alone. The C labels
    share the doubt evenly, so that all promises hold at once with `certainty` (Bonferroni; Dunn 1961, Multiple
    Comparisons Among Means); `find_threshold` corrects for the search inside each.

    Args:
        grids: thresholds to try for each of C labels, from other rows.
        answers, confidence, right: [n] of the rows that test them; `answers` are the numbers of the labels.
        share: fraction that has to be right.
        certainty: probability that all promises hold.

    Returns:
        For each label a threshold, whose coverage is of its own answers, or None.
    """
    alone, chosen = 1 - (1 - certainty) / len(grids), list[Threshold | None]()
    for label, grid in enumerate(grids):
        rows = answers == label
        testable = len(grid) and rows.any()
        chosen.append(
            find_threshold(grid, confidence[rows], right[rows], share=share, certainty=alone)[0] if testable else None
        )
    return chosen


def fewest_answers(labels: int, *, share: float, certainty: float) -> int:
    """Give the least number of answers of a label, all of them right, from which on it can have a threshold.

    share^n <= doubt, the Clopper-Pearson bound of n of n.
    """
    return math.ceil(math.log((1 - certainty) / labels / STARTS) / math.log(share))


def _test(threshold: float, confidence: np.ndarray, right: np.ndarray, doubt: float) -> Threshold:
    taken = confidence >= threshold
    rows, good = int(taken.sum()), int(right[taken].sum())
    return Threshold(threshold, rows / len(right), good / max(rows, 1), least_share(good, rows, doubt))
