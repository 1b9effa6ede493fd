"""`toolkit calibrate`, and the same step of an export: which rows calibrate a model's scores, and what that brings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle.calibration import Calibration, describe, write_calibration
from toolkit.bundle.format import Bundle, open_bundle, resealed
from toolkit.bundle.manifest import CALIBRATION, Manifest, Origin
from toolkit.config import CalibrateConfig
from toolkit.console import echo, show_table
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, find_split, sample_numbers
from toolkit.data.sources import WHOLE
from toolkit.data.train_rows import digest_without_dev, read_as_train
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.evaluate import dev_share
from toolkit.inference.metrics import calibration_error, calibration_error_by_chance, confidences, log_loss, reliability
from toolkit.inference.predictor import open_predictor
from toolkit.inference.promises import add_promises
from toolkit.inference.temperature import fit_temperatures
from toolkit.tasks import Task

FEWEST = 200  # rows that fit, and as many that report: they tell an accuracy to 3.5 points, one standard error
MOST = 20_000  # rows that are read of a file
SIDES = b"calibration\0"  # before a text that is hashed: other draws by texts say nothing about this one


@dataclass(frozen=True)
class CalibrationRows:
    """Rows that a model's training has not seen: those that fit its temperatures, and others that tell the errors.

    Attributes:
        fitted, reported: the rows; no first text is in both.
        fitted_of, reported_of: what they are, in words.
    """

    fitted: Split
    reported: Split
    fitted_of: str
    reported_of: str

    @classmethod
    def halves(cls, rows: Split, name: str) -> CalibrationRows:
        """Put each row on a side by a hash of its first text, always on that one."""
        odd = np.array([_is_odd(text) for text in rows.texts], dtype=bool)
        fitted, reported = (rows.take(np.flatnonzero(side)) for side in (odd, ~odd))
        return cls(fitted, reported, f"a half of {name}", f"the other half of {name}")

    @property
    def shortage(self) -> str:
        """Say that there are too few rows, and how many it takes; empty where there are enough."""
        if min(len(self.fitted), len(self.reported)) >= FEWEST:
            return ""
        fitted, reported = f"{self.fitted_of} has {len(self.fitted):,}", f"{self.reported_of} {len(self.reported):,}"
        return f"{fitted} rows and {reported}, where each needs {FEWEST}"


def _is_odd(text: str) -> bool:
    return hashlib.sha256(SIDES + text.encode(errors="surrogatepass")).digest()[0] % 2 == 1


def run_calibrate(config: CalibrateConfig) -> Bundle:
    """Fit the temperatures of a bundle by rows of a file, find thresholds where asked, and put both into the bundle.

    Raises:
        ToolkitError: a damaged bundle, one without labels, or rows that are too few, seen in training or not labelled.
        GateError: no threshold keeps a promise; the bundle stays as it was.
    """
    config.check()
    require_packages("scipy", purpose="toolkit calibrate")
    predictor = open_predictor(config.bundle)
    bundle = predictor.bundle
    options = DataOptions(config.text_column, config.pair_column, config.label_column, None, config.skip_bad_rows)
    rows = CalibrationRows.halves(load_rows(bundle, config.data, options), Path(config.data).name)
    require_enough(rows, config.data)
    fitted, reported = (
        predictor.logits(predictor.encoder.encode(split.texts, split.pairs)) for split in (rows.fitted, rows.reported)
    )
    calibration = calibrate(bundle.task, rows, fitted, reported)
    add_promises(calibration, predictor, rows.reported, fitted, reported, config)
    with resealed(bundle, without=CALIBRATION) as (staging, _):
        write_calibration(staging, calibration)
    return open_bundle(bundle.path)


def load_rows(source: Bundle, path: str, options: DataOptions) -> Split:
    """Read labelled rows to calibrate a bundle by, at most MOST.

    Raises:
        ToolkitError: a task without labels, rows that cannot be read, or rows that made or chose the model.
    """
    if source.task.kind == "regression":
        raise ToolkitError(f"{source.path} answers with a number: it states no confidence that could be calibrated")
    located = find_split(source.task, WHOLE, path, options)
    known = read_as_train(located, skip_bad=options.skip_bad_rows)
    rows = known.take(sample_numbers(len(known), MOST, 0))
    digests = {rows.digest, known.digest, digest_without_dev(located, dev_share(source.manifest))}
    if digests & set(used_digests(source.manifest)):
        raise ToolkitError(
            f"{path} holds the rows that {source.path} was trained or chosen by: of those it is too sure",
            expected="labelled rows that it has not seen",
        )
    return rows


def require_enough(rows: CalibrationRows, path: str) -> None:
    """Refuse too few rows.

    Raises:
        ToolkitError: it says how many it takes.
    """
    if shortage := rows.shortage:
        raise ToolkitError(f"{path}: too few rows to calibrate by: {shortage}", fix="more labelled rows")


def own_rows(source: Bundle, splits: Mapping[str, Split | None]) -> CalibrationRows | str:
    """Find the rows of a model's own data that neither trained nor chose it: halves of test, else of dev.

    Labels do not depend on a temperature, so that the model's metrics on those rows stay what they are; errors of
    confidence are told by the half that fits nothing.

    Returns:
        The rows, or in words why there are none.
    """
    used, reasons = set(used_digests(source.manifest)), []
    for name in ("test", "dev"):
        if (split := splits.get(name)) is None:
            continue
        if split.digest in used or (name == "dev" and "split" not in source.manifest):  # an older toolkit's dev chose
            reasons.append(f"{name} chose the model")
            continue
        rows = CalibrationRows.halves(split, name)
        if not rows.shortage:
            return rows
        reasons.append(rows.shortage)
    return "; ".join(reasons)


def used_digests(record: Manifest | Origin) -> Iterator[str]:
    """Yield the digests of the rows that a model, or one that it was made from, was trained or chosen by."""
    data = record.get("data") or {}
    # toolkits that did not name the split of a score chose by dev
    names = ("train", "selection") if "split" in record else ("train", "selection", "dev")
    yield from (digest for name in names if isinstance(digest := data.get(name), str))
    for origin in (record.get("made_from") or {}).values():
        yield from used_digests(origin)


def calibrate(task: Task, rows: CalibrationRows, fitted: np.ndarray, reported: np.ndarray) -> Calibration:
    """Fit a model's temperatures on the rows that fit, measure on those that report, and show both.

    Args:
        task: of kind "classification" or "multi_label".
        rows: enough of them.
        fitted, reported: the model's logits of both kinds of rows, [n, C] and [m, C].
    """
    temperatures = fit_temperatures(fitted, rows.fitted.labels, task.kind)
    labels, before = rows.reported.labels, reported.astype(np.float64)
    after = before / temperatures
    stated, true = confidences(after, labels, task.kind)
    bins = reliability(stated, true)
    calibration: Calibration = {
        "temperature": temperatures.tolist(),
        "rows": len(rows.fitted), "rows_of": rows.fitted_of, "rows_sha256": rows.fitted.digest,
        "reported_rows": len(rows.reported), "reported_rows_of": rows.reported_of,
        "ece_before": calibration_error(reliability(*confidences(before, labels, task.kind))),
        "ece_after": calibration_error(bins), "ece_by_chance": calibration_error_by_chance(stated),
        "log_loss_before": log_loss(before, labels, task.kind), "log_loss_after": log_loss(after, labels, task.kind),
        "thresholds": [],
    }  # fmt: skip
    echo(describe(calibration))
    table = [(f"{group.rows:,}", f"{100 * group.confidence:.1f}", f"{100 * group.accuracy:.1f}") for group in bins]
    show_table(f"calibrated, on {rows.reported_of}", ("answers", "confidence, %", "right, %"), table)
    return calibration
