"""The calibration of a bundle's scores: `calibration.json`, its entries and their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import numpy as np
from pydantic import FailFast, Field
from typing_extensions import TypedDict

from toolkit.bundle.manifest import CALIBRATION
from toolkit.bundle.typed_json import MAX_SHOWN, Count, parse_typed
from toolkit.errors import some
from toolkit.files import canonical_json
from toolkit.reports.table import percent
from toolkit.tasks import Task, TaskRecord

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
Temperature = Annotated[float, Field(ge=LEAST_TEMPERATURE, le=MOST_TEMPERATURE)]
Figure = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=4 * MAX_SHOWN)]


class Promise(TypedDict):
    """From `threshold` on, at least `share` of the answers are right ("accurate"), or a teacher's ("agree").

    It holds with a probability of `confidence` over draws of the reported rows, of which `coverage` is answered so.
    """

    kind: Literal["accurate", "agree"]
    """What is promised: right answers, or a teacher's."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Least share of such answers at or above the threshold."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Probability of the promise over draws of rows."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    """Lowest score that the promise is for."""
    coverage: Annotated[float, Field(ge=0, le=1)]
    """Share of the reported rows with such a score."""


class LabelPromise(TypedDict):
    """From its own label's threshold on, at least `share` of the answers of each label are right, or a teacher's.

    It holds for all labels at once with a probability of `confidence`. Answers of a label without a threshold are never
    sure: too few of the reported rows have it, or the model errs too often about it.
    """

    kind: Literal["accurate", "agree"]
    """What is promised: right answers, or a teacher's."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Least share of such answers at or above a label's threshold, for each label."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Probability over draws of rows that the promise holds for all labels."""
    thresholds: Annotated[list[Annotated[float, Field(ge=0, le=1)] | None], FailFast()]
    """Lowest score of each label that the promise is for; null where there is none."""
    coverage: Annotated[float, Field(ge=0, le=1)]
    """Share of the reported rows with such a score of their answer's label."""


class Calibration(TypedDict):
    """The temperatures by which logits are divided, the rows that set them, and what they did on other rows.

    `temperature` holds one number, or of a multi-label task one for each label. `ece_by_chance` is the error that
    true probabilities would show on `reported_rows`.
    """

    temperature: Annotated[list[Temperature], FailFast()]
    """Divisor of the logits; of a multi-label task one for each label."""
    rows: Count
    """Rows that set the temperature."""
    rows_of: Name
    """Data that they are of."""
    rows_sha256: str
    """SHA-256 of these rows."""
    reported_rows: Count
    """Rows that the figures below are of."""
    reported_rows_of: Name
    """Data that they are of."""
    ece_before: Figure
    """Expected calibration error of the plain scores."""
    ece_after: Figure
    """The same after division by the temperature."""
    ece_by_chance: Figure
    """The same of true probabilities, on as many rows."""
    log_loss_before: Figure
    """Log loss of the plain scores."""
    log_loss_after: Figure
    """The same after division by the temperature."""
    thresholds: Annotated[list[Promise], Field(max_length=2)]
    """Thresholds that hold a promise."""
    label_thresholds: NotRequired[Annotated[list[LabelPromise], Field(max_length=2)]]
    """Thresholds of each label, which count instead."""


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the calibration of a bundle that is being made."""
    (folder / CALIBRATION).write_bytes(canonical_json(calibration))


def calibration_of(content: bytes, task: TaskRecord | None) -> Calibration:
    """Parse the bytes of a CALIBRATION file of a task.

    Raises:
        ValueError: the entries have other types or make no sense; the message says which.
    """
    calibration: Calibration = parse_typed(content, Calibration)
    kind, labels = (task["kind"], len(task["labels"])) if task else ("regression", 0)
    count = {"classification": 1, "multi_label": labels, "regression": 0}[kind]
    if len(calibration["temperature"]) != count:
        raise ValueError(f"temperature: {len(calibration['temperature'])} numbers, expected {count}")
    for promise in calibration.get("label_thresholds", []):
        if len(promise["thresholds"]) != labels:
            raise ValueError(f"label_thresholds: {len(promise['thresholds'])} numbers, expected {labels}")
    return calibration


def logit_scale(calibration: Calibration | None) -> np.ndarray:
    """Give the factors of the logits, 1 / temperature, [1] or [C] float64: above 0, so that they change no label."""
    return np.ones(1) if calibration is None else 1.0 / np.array(calibration["temperature"], dtype=np.float64)


def label_thresholds(calibration: Calibration | None, task: Task) -> np.ndarray | None:
    """Give for each label the score from which on all promises about it hold, [C]; inf where it is never sure.

    None where nothing is promised. Only the best score of a classification is a confidence.
    """
    if calibration is None or task.kind != "classification":
        return None
    rows = [promise["thresholds"] for promise in calibration.get("label_thresholds", [])] or [
        [promise["threshold"]] * len(task.labels) for promise in calibration["thresholds"]
    ]
    scores = [[np.inf if threshold is None else threshold for threshold in row] for row in rows]
    return np.array(scores).max(axis=0) if scores else None


def is_unsure(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Tell for each row of scores [n, C] whether its best one is below the threshold of its label, bool [n]."""
    return np.asarray(scores.max(axis=1) < thresholds[scores.argmax(axis=1)])


def describe(calibration: Calibration) -> str:
    """Say in a sentence what a calibration is."""
    low, high = min(calibration["temperature"]), max(calibration["temperature"])
    temperature = f"{low:.3g}" if len(calibration["temperature"]) == 1 else f"{low:.3g} to {high:.3g} by label"
    return (
        f"scores: temperature {temperature} by {calibration['rows']:,} rows, {calibration['rows_of']}; "
        f"on {calibration['reported_rows']:,} rows, {calibration['reported_rows_of']}: calibration error "
        f"{100 * calibration['ece_before']:.2f} -> {percent(calibration['ece_after'], 2)} "
        f"({percent(calibration['ece_by_chance'], 2)} by chance), "
        f"log loss {calibration['log_loss_before']:.4f} -> {calibration['log_loss_after']:.4f}"
    )


def describe_promise(promise: Promise) -> str:
    """Say in a sentence what a threshold promises."""
    what = "right" if promise["kind"] == "accurate" else "the teacher's"
    return (
        f"answers with a score of {promise['threshold']:.4f} or more, {percent(promise['coverage'])} of all, "
        f"are {what} in at least {100 * promise['share']:g} % of cases (confidence {100 * promise['confidence']:g} %)"
    )


def describe_label_promise(promise: LabelPromise, labels: Sequence[str]) -> str:
    """Say in a sentence what the thresholds of the labels promise."""
    what = "right" if promise["kind"] == "accurate" else "the teacher's"
    pairs = list(zip(labels, promise["thresholds"], strict=True))
    sure = [f"{label} from {threshold:.4f}" for label, threshold in pairs if threshold is not None]
    never = [label for label, threshold in pairs if threshold is None]
    return (
        f"answers at or above their label's threshold ({some(sure)}), {percent(promise['coverage'])} of all, "
        f"are {what} in at least {100 * promise['share']:g} % of cases for each label (confidence "
        f"{100 * promise['confidence']:g} % for all labels together)"
        + (f"; never sure: {some(never)}" if never else "")
    )


def describe_promises(calibration: Calibration, labels: Sequence[str]) -> list[str]:
    """Say in a sentence each what the thresholds promise, those of the labels last."""
    by_label = calibration.get("label_thresholds", [])
    return [
        *map(describe_promise, calibration["thresholds"]),
        *(describe_label_promise(promise, labels) for promise in by_label),
    ]
