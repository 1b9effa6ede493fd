"""The rows that calibrate an export's scores: those of --confidence-data, else of the model's own data."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.bundle.format import Bundle
from toolkit.config import ExportConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split
from toolkit.inference.calibrate import CalibrationRows, load_rows, own_rows, require_enough


def confidence_rows(source: Bundle, config: ExportConfig, splits: Mapping[str, Split | None]) -> CalibrationRows | None:
    """Choose the rows, before anything is exported.

    Rows of --confidence-data all fit, and the split that is reported tells the errors; what is in both fits nothing.

    Args:
        source: the model to export.
        config: options.
        splits: "test" and "dev", or None where there is none.

    Returns:
        None where a model has no scores to calibrate, or its own data have no such rows, which is said.

    Raises:
        ToolkitError: rows of --confidence-data that are too few, seen in training, or not labelled.
    """
    if config.confidence_data is not None:
        given = load_rows(source, config.confidence_data, DataOptions.of(config))
        name, reported = next((name, split) for name, split in splits.items() if split is not None)
        rows = CalibrationRows(given.without(set(reported.inputs)), reported, given.source, name)
        require_enough(rows, config.confidence_data)
        return rows
    if source.task.kind == "regression":
        return None
    rows_or_reason = own_rows(source, splits)
    if isinstance(rows_or_reason, str):
        echo(f"scores are not calibrated: {rows_or_reason} (else: --confidence-data FILE)")
        return None
    return rows_or_reason
