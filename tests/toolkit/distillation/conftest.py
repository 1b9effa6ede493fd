"""A student with its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill


@pytest.fixture(scope="session")
def run_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Any], save_model: Callable[..., Path],
    data_dir: Path,
) -> Path:  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_model(tiny_bert(), folder / "teacher")
    run_distill(DistillConfig(
        str(folder / "teacher"), "auto", str(folder / "student"), data=str(data_dir), student="2/16/32/4",
        intermediate_epochs=3, prediction_epochs=2, allow_weak_teacher=True,
    ))  # fmt: skip
    return folder / "student"


@pytest.fixture
def report(run_bundle: Path) -> dict[str, Any]:
    return json.loads((run_bundle / "report.json").read_text())  # type: ignore[no-any-return]
