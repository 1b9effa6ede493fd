"""Metrics of GLUE, from logits [n, C] and labels, by scikit-learn and scipy, which load at first use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.tasks import ClassScore, Kind, Task

CHANCE = 1e-3  # of claiming another order of outputs that have nothing to do with the labels
BINS = 15  # of confidence, as in Guo et al. 2017 (arXiv 1706.04599)
Metric = Callable[[Task, np.ndarray, np.ndarray], float]  # (task, labels, predictions) to a number


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute exp(z) / sum exp(z) over the last axis, [n, C] to [n, C], in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def scores(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Turn logits [n, C] into scores [n, C]: a softmax, a sigmoid for each label, or the number itself."""
    if kind == "classification":
        return softmax(logits)
    if kind == "multi_label":
        return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))  # 1 / (1 + exp(-z)) without overflow
    return logits.astype(np.float64)


def predictions(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Decide from logits [n, C]: class numbers [n], 0 or 1 [n, C] for multi_label, numbers [n] for regression."""
    if kind == "classification":
        return np.asarray(logits.argmax(axis=-1))
    if kind == "multi_label":
        return (logits > 0).astype(np.int64)
    return np.asarray(logits[:, 0], dtype=np.float64)


def evaluate(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute all metrics of a task as fractions (0.83, not 83 %), in the task's order.

    F1 is that of class 1 for two classes, else the mean over classes. Accuracy of multi_label counts each decision.

    Args:
        task: with the names of the metrics and the kind of output.
        logits: [n, C].
        labels: class numbers [n], 0 or 1 [n, C] for multi_label, numbers [n] for regression.

    Raises:
        ToolkitError: logits that are not finite, or a metric that this toolkit does not have.
    """
    if unknown := [name for name in task.metrics if name not in _METRIC]:
        raise ToolkitError(f"no metric {', '.join(unknown)}", expected=f"metrics out of {', '.join(_METRIC)}")
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=-1).sum())
        raise ToolkitError(f"{bad} of {len(logits)} rows have logits that are not finite (NaN or infinity)")
    predicted = predictions(logits, task.kind)
    return {name: _METRIC[name](task, labels, predicted) for name in task.metrics}


def meanings(task: Task) -> list[str]:
    """Say what F1, and accuracy of multi_label, are taken over."""
    many = "labels" if task.kind == "multi_label" else "classes"
    f1 = f"that of {task.labels[1]}" if many == "classes" and len(task.labels) == 2 else f"the mean over the {many}"
    said = [f"f1 is {f1}"] if "f1" in task.metrics else []
    if many == "labels" and "accuracy" in task.metrics:
        said.append("accuracy counts each label of each row")
    return said


def by_class(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, ClassScore]:
    """Compute for each class TP / (TP + FP), TP / (TP + FN) and F1, 0 where nothing counts; none for regression.

    Args:
        task: with the names of the classes.
        logits: [n, C].
        labels: class numbers [n], or 0 or 1 [n, C] for multi_label.
    """
    if task.kind == "regression":
        return {}
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, predictions(logits, task.kind), labels=range(len(task.labels)), zero_division=0.0
    )
    return {
        label: {"rows": int(rows), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for label, precision, recall, f1, rows in zip(task.labels, *columns, strict=True)
    }


@dataclass(frozen=True)
class Bin:
    """Decisions of like confidence: how many, their mean confidence, and the fraction that is right."""

    rows: int
    confidence: float
    accuracy: float


def confidences(logits: np.ndarray, labels: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Give the probability that each decision states, and whether it came true.

    Classification: [n], of the best label. Multi-label: [n * C], of each label, and whether the row has it.
    """
    probabilities = scores(logits, kind)
    if kind == "multi_label":
        return probabilities.ravel(), labels.ravel().astype(bool)
    return probabilities.max(axis=1), logits.argmax(axis=1) == labels


def reliability(stated: np.ndarray, true: np.ndarray) -> list[Bin]:
    """Gather decisions in BINS bins of equal width, ascending by confidence; empty ones are left out.

    Args:
        stated: probabilities [m].
        true: whether each came true [m].
    """
    places = np.minimum((stated * BINS).astype(np.int64), BINS - 1)
    groups = [places == place for place in range(BINS)]
    return [Bin(int(rows.sum()), float(stated[rows].mean()), float(true[rows].mean())) for rows in groups if rows.any()]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Compute the expected calibration error, sum_b n_b / n |accuracy_b - confidence_b| (Guo et al. 2017, Eq. 3)."""
    rows = sum(group.rows for group in bins)
    return sum(group.rows / rows * abs(group.accuracy - group.confidence) for group in bins)


def calibration_error_by_chance(stated: np.ndarray) -> float:
    """Compute the error that true probabilities [m] would show, since a bin of a few rows is never quite right.

    The sum in a bin has the variance sum_i p_i (1 - p_i); a normal variable's mean size is sqrt(2 / pi) deviations.
    """
    places = np.minimum((stated * BINS).astype(np.int64), BINS - 1)
    variances = np.bincount(places, stated * (1 - stated), minlength=BINS)
    return float(np.sqrt(2 / np.pi * variances).sum() / len(stated))


def log_loss(logits: np.ndarray, labels: np.ndarray, kind: Kind) -> float:
    """Compute the mean of -log p(label), of each row or for multi-label of each row and label; in nats."""
    logits = logits.astype(np.float64)
    if kind == "multi_label":
        return float(np.logaddexp(0.0, np.where(labels == 1, -logits, logits)).mean())
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return float((np.logaddexp.reduce(logits, axis=1) - of_label).mean())


def majority_baseline(task: Task, labels: np.ndarray) -> float:
    """Score a model that always answers the most frequent label, by the task's first metric; 0 for regression."""
    if task.kind == "regression":
        return 0.0
    logits = np.zeros((len(labels), len(task.labels)))
    if task.kind == "classification":
        logits[:, np.bincount(labels, minlength=len(task.labels)).argmax()] = 1.0
    else:
        logits[:] = np.where(labels.mean(axis=0) > 0.5, 1.0, -1.0)
    return evaluate(task, logits, labels)[task.metric]


@dataclass(frozen=True)
class LabelOrder:
    """The order of a model's outputs: `order[c]` is the class that output c behaves like.

    `by_chance` bounds the accuracy of the best order where outputs and labels have nothing to do with each other.
    """

    order: tuple[int, ...]
    accuracy: float
    best_accuracy: float
    by_chance: float

    @property
    def permuted(self) -> bool:
        """Tell whether another order of the outputs fits the labels clearly better than the stated one and chance."""
        other = self.order != tuple(range(len(self.order)))
        return other and self.best_accuracy > max(self.accuracy + 0.1, self.by_chance)


def label_order(logits: np.ndarray, labels: np.ndarray) -> LabelOrder:
    """Find the assignment of outputs to classes that agrees most with the labels (Hungarian algorithm).

    A teacher with another order of labels than the task scores far below chance: about 10 % on MNLI. Outputs that are
    independent of the labels agree with probability sum_c p(output c) p(class order[c]). On n rows the best of C!
    orders exceeds that by more than sqrt((ln C! + ln 1/p) / 2n) with a probability of at most p (Hoeffding).
    """
    from scipy.optimize import linear_sum_assignment

    classes = logits.shape[1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (logits.argmax(axis=1), labels), 1)
    _, order = linear_sum_assignment(-confusion)
    best = confusion[np.arange(classes), order].sum() / len(labels)
    n = len(labels)
    independent = (confusion.sum(axis=1) * confusion.sum(axis=0)[order]).sum() / n**2
    margin = math.sqrt((math.lgamma(classes + 1) - math.log(CHANCE)) / (2 * n))
    accuracy = float(np.trace(confusion) / n)
    return LabelOrder(tuple(int(c) for c in order), accuracy, float(best), float(independent) + margin)


def _accuracy(_task: Task, labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(labels == predictions))


def _f1(task: Task, labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    average = "binary" if task.kind == "classification" and len(task.labels) == 2 else "macro"
    return float(f1_score(labels, predictions, average=average, zero_division=0.0))


def _matthews(_task: Task, labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    if len(np.union1d(labels, predictions)) == 1:
        return 0.0  # by convention; scikit-learn would warn
    return float(matthews_corrcoef(labels, predictions))


def _correlation(name: str) -> Metric:
    def compute(_task: Task, labels: np.ndarray, predictions: np.ndarray) -> float:
        from scipy import stats

        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0  # a constant correlates with nothing; scipy would warn and give NaN
        return float(getattr(stats, name)(labels, predictions).statistic)

    return compute


_METRIC: dict[str, Metric] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _correlation("pearsonr"),
    "spearman": _correlation("spearmanr"),
}
