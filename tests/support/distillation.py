"""A distillation of a small student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill

SMALL = {"student": "2/16/32/4", "intermediate_epochs": 6, "intermediate_lr": 5e-3, "prediction_epochs": 3}


def distill(teacher: Path, data_dir: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {**SMALL, "prediction_lr": 2e-3, **changes}
    run_distill(DistillConfig(str(teacher), "auto", str(out), data=str(data_dir), **settings))
    return open_bundle(out).manifest
