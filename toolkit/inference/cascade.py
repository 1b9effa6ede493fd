"""A second model behind a first one: which answers of the first go on to it, and what both answer together.

An answer goes on where its best score is below its label's threshold (`is_unsure`): a given one, or the bundle's own
with its promise. `toolkit serve`, `score`, `cascade` and `load` decide and merge by this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.bundle.calibration import is_unsure
from toolkit.errors import ToolkitError, some
from toolkit.inference.predictor import Classifier
from toolkit.tasks import Kind


@dataclass(frozen=True)
class SecondAnswer:
    """A second model's answer to n inputs, in the order of the first model's labels.

    Attributes:
        logits: [n, C] as they are, or logs of probabilities.
        scores: [n, C] calibrated probabilities.
        unsure: bool [n]; the best score is below the second model's own threshold, if it has one.
    """

    logits: np.ndarray
    scores: np.ndarray
    unsure: np.ndarray

    @classmethod
    def of(cls, classifier: Classifier, logits: np.ndarray, order: Sequence[int]) -> SecondAnswer:
        """Make the answer of a classifier's logits [n, C], its outputs taken in an `order` of `label_places`."""
        scores, thresholds = classifier.scores(logits), classifier.thresholds
        unsure = np.zeros(len(scores), dtype=bool) if thresholds is None else is_unsure(scores, thresholds)
        return cls(logits[:, order], scores[:, order], unsure)


def merged(first: np.ndarray, rows: np.ndarray, second: np.ndarray | None) -> np.ndarray:
    """Put a second model's scores or logits, [m, C], into those of the first, [n, C], at `rows`; None leaves them."""
    if second is None:
        return first
    scores = first.copy()
    scores[rows] = second
    return scores


def thresholds_of(classifier: Classifier, given: float) -> np.ndarray | None:
    """Return the threshold of each label, [C]: the given one where it is not 0, else the bundle's, else none.

    Only the best score of a classification, one label of several, is a confidence.
    """
    if given and classifier.task.kind == "classification":
        return np.full(len(classifier.task.labels), given)
    return classifier.thresholds


def require_thresholds(thresholds: np.ndarray | None, fallback: str, name: str, place: object) -> np.ndarray:
    """Refuse a second model behind one that is never unsure.

    Args:
        thresholds: of the first model.
        fallback: the second one, as the user names it.
        name, place: of the first one.

    Raises:
        ToolkitError: there are none.
    """
    if thresholds is None:
        raise ToolkitError(
            f"--fallback {fallback}: nothing tells what {name} is unsure of",
            expected="a first model that gives one label of several, with a threshold",
            fix=f"toolkit calibrate {place} --accurate 0.98, or --threshold 0.9",
        )
    return thresholds


def require_labels(kind: Kind, shown: str) -> None:
    """Refuse a second model that does not give one label of several.

    Raises:
        ToolkitError: it does not.
    """
    if kind != "classification":
        raise ToolkitError(
            f"{shown} is a {kind.replace('_', '-')} model", expected="one that gives one label of several"
        )


def label_places(first: Sequence[str], second: Sequence[str], shown: str) -> list[int]:
    """Give the numbers of a second model's labels in the order of the first one's.

    Raises:
        ToolkitError: they are not the same.
    """
    if sorted(first) != sorted(second):
        raise ToolkitError(
            f"{shown}: its labels are {some(sorted(second))}; those of the first model are {some(sorted(first))}",
            expected="the same labels, in any order",
        )
    return [second.index(label) for label in first]
