"""An export whose gate on the metric is wide, for models with random weights."""

from __future__ import annotations

from pathlib import Path

from export.pipeline import run_export
from toolkit.bundle.format import Bundle
from toolkit.config import ExportConfig

LOOSE = 15.0  # points: many rows of a random model lie near its boundary


def export_loosely(source: Path, data: Path, out: Path, **options: object) -> Bundle:
    return run_export(ExportConfig(str(source), str(out), data=str(data), max_drop=LOOSE, **options))  # type: ignore[arg-type]
