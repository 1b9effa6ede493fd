"""Stored results of GLUE tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.distillation import glue


def test_a_row_replaces_that_of_its_task_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue, "GLUE", tmp_path / "glue.json")

    def row(task: str, seed: int, student: float) -> dict[str, object]:
        return {"task": task, "seed": seed, "split": "dev", "student": student}

    old = {"task": "rte", "seed": 2, "student": 70.0}
    (tmp_path / "glue.json").write_text(json.dumps([old]))
    assert glue.store(row("mrpc", 1, 1.0))[1] == old

    for entry in (row("rte", 1, 60.0), row("mrpc", 2, 85.0), row("mrpc", 1, 80.0), row("rte", 1, 61.0)):
        rows = glue.store(entry)
    assert rows == [row("mrpc", 1, 80.0), row("mrpc", 2, 85.0), row("rte", 1, 61.0)]  # in the order of TASKS
    assert json.loads((tmp_path / "glue.json").read_text(encoding="utf-8")) == rows


def test_every_task_has_a_folder_and_a_recipe() -> None:
    assert set(glue.RECIPES) == set(glue.FOLDERS) == set(glue.TASKS) - {"rotten-tomatoes"}
