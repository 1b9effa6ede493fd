"""Stored results of the students of a 12-layer teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.distillation import paper_size
from benchmarks.distillation.glue import Recipe
from benchmarks.distillation.tables import COLUMNS
from benchmarks.gpu.quality import small_task


def row(task: str, seed: int, init: str = "teacher", **scores: float) -> dict[str, Any]:
    return {"task": task, "seed": seed, "init": init, "retention": 0.0, "student": 0.0, "labels": 0.0, **scores}


def test_a_task_counts_the_same_however_many_seeds_it_has() -> None:
    rows = [
        row("mrpc", 1, retention=90, student=80, labels=70),
        row("mrpc", 2, retention=94, student=84, labels=80),
        row("rte", 1, retention=96, student=60, labels=61),
    ]
    assert paper_size.means(rows) == {"mean_kept": (92 + 96) / 2, "over_labels_alone": (7 - 1) / 2}


def test_a_row_replaces_that_of_its_task_seed_and_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_size, "PAPER_SIZE", tmp_path / "paper_size.json")
    first, again = row("rte", 1, retention=80), row("rte", 1, retention=90)
    for entry in (first, row("mrpc", 1), row("rte", 1, init="minilm"), again):
        report = paper_size.store(entry)
    assert report["runs"] == [row("mrpc", 1), row("rte", 1, init="minilm"), again]  # in the order of the tasks
    assert report["mean_kept"] == (0 + (0 + 90) / 2) / 2
    assert json.loads((tmp_path / "paper_size.json").read_text(encoding="utf-8")) == report


def test_every_task_has_a_recipe_and_its_data() -> None:
    assert set(paper_size.RECIPES) == set(paper_size.TASKS)
    assert set(paper_size.FILMS) <= set(paper_size.TASKS)


@pytest.mark.slow
def test_every_column_is_of_a_model_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper_size.RECIPES, "sst2", Recipe(8, 2, 2, teacher_lr=5e-3))
    monkeypatch.setattr(paper_size.builtin, "imdb_sentences", lambda count, seed: ["a good film"] * count)
    encoder = small_task(tmp_path)
    out = tmp_path / "out"
    runs = paper_size.Runs("sst2", 1, encoder, "teacher", tmp_path, out, 50, shape="2/16/32/4", assistant=encoder)
    out.mkdir()
    row = runs.row()
    assert row["teacher"] > 90
    assert row["init"] == "assistant"
    assert row["student"] >= row["start"]
    assert row["words"] > 90
    assert all(0 <= row[name] <= 100 for name in COLUMNS)
    assert row["retention"] == pytest.approx(100 * row["student"] / row["teacher"])
    assert sorted(path.name for path in runs.out.iterdir() if path.is_dir()) == [
        "assistant", "labels", "random", "student", "student-int8", "teacher", "teacher-int8",
    ]  # fmt: skip
    made = {path: path.stat().st_mtime_ns for path in runs.out.rglob("*.safetensors")}
    assert runs.row() == row, "every step is reused"
    assert {path: path.stat().st_mtime_ns for path in made} == made
