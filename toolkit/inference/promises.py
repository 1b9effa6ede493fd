"""The thresholds of a bundle's scores that `toolkit calibrate` promises something about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from toolkit.bundle.calibration import Calibration, LabelPromise, describe_promises, logit_scale
from toolkit.config import CalibrateConfig
from toolkit.console import echo
from toolkit.data.datasets import Split
from toolkit.errors import GateError, ToolkitError, some
from toolkit.inference.cascade import label_places
from toolkit.inference.metrics import softmax
from toolkit.inference.predictor import Predictor, open_predictor
from toolkit.inference.threshold import (
    Threshold,
    candidates,
    fewest_answers,
    find_label_thresholds,
    find_threshold,
    label_candidates,
)
from toolkit.reports.table import percent

Kind = Literal["accurate", "agree"]
WHERE_NONE = "more rows, a smaller share, or a smaller --confidence"


@dataclass(frozen=True)
class BestLabels:
    """The best labels of rows: their numbers, their calibrated scores [n]."""

    labels: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, scale: np.ndarray) -> BestLabels:
        """Take them from logits [n, C]."""
        return cls(logits.argmax(axis=1), softmax(logits * scale).max(axis=1))


def add_promises(
    calibration: Calibration, predictor: Predictor, rows: Split, fitted: np.ndarray, reported: np.ndarray,
    config: CalibrateConfig,
) -> None:  # fmt: skip
    """Add the thresholds that the options ask for: from the rows that fit the temperature, tested on the others.

    Args:
        calibration: has the temperature, and gets the thresholds.
        predictor: the model.
        rows: m rows that test the thresholds.
        fitted: logits [n, C] of the rows that set the temperature, and the thresholds to try.
        reported: logits [m, C] of `rows`.
        config: which promises, and the confidence in them.

    Raises:
        ToolkitError: a task that has not one label a text, or a teacher of other labels.
        GateError: no threshold keeps a promise; the nearest one is named.
    """
    shares: dict[Kind, float | None] = {"accurate": config.accurate, "agree": config.agree}
    asked = [(kind, share) for kind, share in shares.items() if share is not None]
    if asked and predictor.task.kind != "classification":
        raise ToolkitError(f"{config.bundle} gives no single label: a threshold is about the best one of several")
    scale, names = logit_scale(calibration), predictor.task.labels
    before, answers = BestLabels.of(fitted, scale), BestLabels.of(reported, scale)
    by_label = list[LabelPromise]()
    for kind, share in asked:
        right = answers.labels == (rows.labels if kind == "accurate" else _teacher_labels(config, predictor, rows))
        chosen, nearest = find_threshold(
            candidates(before.confidence), answers.confidence, right, share=share, certainty=config.confidence
        )
        if chosen is not None:
            calibration["thresholds"].append({
                "kind": kind, "share": share, "confidence": config.confidence, "threshold": chosen.threshold,
                "coverage": chosen.coverage,
            })  # fmt: skip
        elif not config.per_class:
            raise _none_holds(f"--{kind} {share:g}", nearest, config)
        if config.per_class:
            by_label.append(_label_promise(kind, share, before, answers, right, names, config))
    if by_label:
        calibration["label_thresholds"] = by_label
    for line in describe_promises(calibration, names):
        echo(line)


def _label_promise(
    kind: Kind, share: float, before: BestLabels, answers: BestLabels, right: np.ndarray, names: Sequence[str],
    config: CalibrateConfig,
) -> LabelPromise:  # fmt: skip
    """Find a threshold for each label, and say which label has too few answers for one.

    Raises:
        GateError: no label has one.
    """
    chosen = find_label_thresholds(
        label_candidates(before.labels, before.confidence, len(names)), answers.labels, answers.confidence, right,
        share=share, certainty=config.confidence,
    )  # fmt: skip
    fewest = fewest_answers(len(names), share=share, certainty=config.confidence)
    counts = np.bincount(answers.labels, minlength=len(names)).tolist()
    if few := [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True) if count < fewest]:
        echo(f"--{kind} {share:g}: a label needs {fewest:,} answers on these rows, and fewer have {some(few)}")
    if not any(chosen):
        raise GateError(
            f"--{kind} {share:g} --per-class: no label has a threshold that holds; nothing was written", fix=WHERE_NONE
        )
    sure = sum(threshold.coverage * count for threshold, count in zip(chosen, counts, strict=True) if threshold)
    return {
        "kind": kind, "share": share, "confidence": config.confidence, "coverage": min(1.0, sure / len(right)),
        "thresholds": [None if threshold is None else threshold.threshold for threshold in chosen],
    }  # fmt: skip


def _teacher_labels(config: CalibrateConfig, predictor: Predictor, rows: Split) -> np.ndarray:
    """Give the numbers of the labels that the teacher answers with [n], in the order of the student's."""
    teacher = open_predictor(str(config.teacher))
    places = label_places(predictor.task.labels, teacher.task.labels, str(config.teacher))
    return np.asarray(teacher.logits(teacher.encoder.encode(rows.texts, rows.pairs))[:, places].argmax(axis=1))


def _none_holds(asked: str, nearest: Threshold | None, config: CalibrateConfig) -> GateError:
    reason = "no row is answered"
    if nearest is not None:
        reason = (
            f"the nearest, {nearest.threshold:.4f}, keeps {percent(nearest.share, 2)} on these rows, and with "
            f"confidence {100 * config.confidence:g} % at least {percent(nearest.bound, 2)} on others"
        )
    return GateError(f"{asked}: no threshold holds; {reason}; nothing was written", fix=WHERE_NONE)
