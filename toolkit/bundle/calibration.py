"""The calibration of a bundle's scores: `calibration.json`, its entries and their bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
from pydantic import FailFast, Field
from typing_extensions import TypedDict

from toolkit.bundle.manifest import CALIBRATION
from toolkit.bundle.typed_json import MAX_SHOWN, Count, parse_json, type_problems
from toolkit.files import canonical_json
from toolkit.reports.table import percent
from toolkit.tasks import TaskRecord

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


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the calibration of a bundle that is being made."""
    (folder / CALIBRATION).write_bytes(canonical_json(calibration))


def calibration_of(content: bytes, task: TaskRecord | None) -> Calibration:
    """Parse the bytes of a CALIBRATION file of a task.

    Raises:
        ValueError: the entries have other types or make no sense; the message says which.
    """
    try:
        calibration = parse_json(content)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    problem = next(type_problems(calibration, Calibration), None)
    kind, labels = (task["kind"], len(task["labels"])) if task else ("regression", 0)
    count = {"classification": 1, "multi_label": labels, "regression": 0}[kind]
    if problem is None and len(calibration["temperature"]) != count:
        problem = f"temperature: {len(calibration['temperature'])} numbers, expected {count}"
    if problem:
        raise ValueError(problem)
    return cast(Calibration, calibration)


def logit_scale(calibration: Calibration | None) -> np.ndarray:
    """Give the factors of the logits, 1 / temperature, [1] or [C] float64: above 0, so that they change no label."""
    return np.ones(1) if calibration is None else 1.0 / np.array(calibration["temperature"], dtype=np.float64)


def promised_threshold(calibration: Calibration | None) -> float | None:
    """Give the score from which on all promises hold; None where there is none."""
    thresholds = [] if calibration is None else calibration["thresholds"]
    return max((promise["threshold"] for promise in thresholds), default=None)


def describe(calibration: Calibration) -> str:
    """Say in a sentence what a calibration is."""
    own = calibration["temperature"]
    temperature = f"{own[0]:.3g}" if len(own) == 1 else f"{min(own):.3g} to {max(own):.3g} by label"
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
