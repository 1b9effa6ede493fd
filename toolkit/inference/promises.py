"""The thresholds of a bundle's scores that `toolkit calibrate` promises something about."""

from __future__ import annotations

from typing import Literal

import numpy as np

from toolkit.bundle.calibration import Calibration, Promise, describe_promise, logit_scale
from toolkit.config import CalibrateConfig
from toolkit.console import echo
from toolkit.data.datasets import Split
from toolkit.errors import GateError, ToolkitError, some
from toolkit.inference.metrics import softmax
from toolkit.inference.predictor import Predictor, open_predictor
from toolkit.inference.threshold import Threshold, candidates, find_threshold
from toolkit.reports.table import percent


def promises(
    predictor: Predictor, rows: Split, fitted: np.ndarray, reported: np.ndarray, calibration: Calibration,
    config: CalibrateConfig,
) -> list[Promise]:  # fmt: skip
    """Find the thresholds that the options ask for: from the rows that fit the temperature, tested on the others.

    Args:
        predictor: the model.
        rows: m rows that test the thresholds.
        fitted: logits [n, C] of the rows that set the temperature, and the thresholds to try.
        reported: logits [m, C] of `rows`.
        calibration: the temperature.
        config: which promises, and the confidence in them.

    Raises:
        ToolkitError: a task that has not one label a text, or a teacher of other labels.
        GateError: no threshold keeps a promise; the nearest one is named.
    """
    shares: dict[Literal["accurate", "agree"], float | None] = {"accurate": config.accurate, "agree": config.agree}
    asked = [(kind, share) for kind, share in shares.items() if share is not None]
    if not asked:
        return []
    if predictor.task.kind != "classification":
        raise ToolkitError(f"{config.bundle} gives no single label: a threshold is about the best one of several")
    scale = logit_scale(calibration)
    confidence, thresholds = softmax(reported * scale).max(axis=1), candidates(softmax(fitted * scale).max(axis=1))
    kept: list[Promise] = []
    for kind, share in asked:
        truth = rows.labels if kind == "accurate" else _teacher_labels(config, predictor, rows)
        right = reported.argmax(axis=1) == truth
        chosen, nearest = find_threshold(thresholds, confidence, right, share=share, certainty=config.confidence)
        if chosen is None:
            raise _none_holds(f"--{kind} {share:g}", nearest, config)
        kept.append({
            "kind": kind, "share": share, "confidence": config.confidence, "threshold": chosen.threshold,
            "coverage": chosen.coverage,
        })  # fmt: skip
        echo(describe_promise(kept[-1]))
    return kept


def _teacher_labels(config: CalibrateConfig, predictor: Predictor, rows: Split) -> np.ndarray:
    """Give the numbers of the labels that the teacher answers with [n]."""
    teacher = open_predictor(str(config.teacher))
    if teacher.task.labels != predictor.task.labels:
        raise ToolkitError(
            f"{config.teacher} answers {some(teacher.task.labels)}", expected=f"{some(predictor.task.labels)}"
        )
    return np.asarray(teacher.logits(teacher.encoder.encode(rows.texts, rows.pairs)).argmax(axis=1))


def _none_holds(asked: str, nearest: Threshold | None, config: CalibrateConfig) -> GateError:
    reason = "no row is answered"
    if nearest is not None:
        reason = (
            f"the nearest, {nearest.threshold:.4f}, keeps {percent(nearest.share, 2)} on these rows, and with "
            f"confidence {100 * config.confidence:g} % at least {percent(nearest.bound, 2)} on others"
        )
    fix = "more rows, a smaller share, or a smaller --confidence"
    return GateError(f"{asked}: no threshold holds; {reason}; nothing was written", fix=fix)
