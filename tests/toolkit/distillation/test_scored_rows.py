"""Rows of a file of answers are learnt from or are dev, never both; agreement is counted where answers are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.data import rows
from toolkit.config import DistillConfig
from toolkit.distillation.data import student_data
from toolkit.distillation.rows import FileAnswers, TaskRows
from toolkit.distillation.scored_rows import load_scored
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source

TEXTS = sorted({text for text, _ in rows(120, seed=3)})


def write(path: Path, texts: list[str], **more: list[str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for i, text in enumerate(texts):
            p = i % 2 * 0.8 + 0.1
            extra = {name: column[i] for name, column in more.items()}
            file.write(json.dumps({"text": text, "probability_negative": 1 - p, "probability_positive": p, **extra}))
            file.write("\n")
    return path


def load(path: Path, **options: object) -> TaskRows:
    return load_scored(DistillConfig(None, "auto", "o", teacher_scores=str(path), init="encoder", **options))  # type: ignore[arg-type]


def answers_of(rows: TaskRows) -> FileAnswers:
    assert rows.answers is not None
    return rows.answers


def test_rows_are_held_out_by_their_texts_alone(encoder: Path, tmp_path: Path) -> None:
    first = load(write(tmp_path / "a.jsonl", TEXTS))
    second = load(write(tmp_path / "b.jsonl", TEXTS[::-1] + TEXTS))
    held = set(first.splits.dev.texts)
    assert 0 < len(held) < 40
    assert held == set(second.splits.dev.texts)
    assert held.isdisjoint(first.train.texts)
    choosing = first.splits.selection
    assert choosing is not None
    assert {*choosing.texts}.isdisjoint({*first.train.texts, *held}), "nor learnt from, nor reported"
    assert choosing.labels.tolist() == [TEXTS.index(text) % 2 for text in choosing.texts]
    assert len(first.train) + len(first.splits.dev) + len(choosing) == len(TEXTS)
    assert second.splits.selection is None, "every text stands twice"
    assert len(first.inputs[0]) == len(answers_of(first).logits) == len(first.train)
    labels = [TEXTS.index(text) % 2 for text in first.splits.dev.texts]
    assert first.splits.dev.labels.tolist() == labels, "the teacher's own answers"
    assert answers_of(first).dev_logits.argmax(1).tolist() == labels
    assert set(first.digests) == {"train", "selection", "dev", "teacher scores"}


def test_labels_of_people_are_dev_s_where_the_file_has_them(encoder: Path, tmp_path: Path) -> None:
    names = ["negative", "positive"]
    answers = [names[i % 2] for i in range(len(TEXTS))]
    path = write(tmp_path / "a.jsonl", TEXTS, predicted_label=answers, label=["positive"] * len(TEXTS))
    scored = load(path)
    assert set(scored.splits.dev.labels.tolist()) == {1}
    teacher = [TEXTS.index(text) % 2 for text in scored.splits.dev.texts]
    assert answers_of(scored).dev_logits.argmax(1).tolist() == teacher


def test_dev_of_the_task_s_data_is_not_learnt_from(data_dir: Path, tmp_path: Path) -> None:
    import csv

    with (data_dir / "dev.csv").open(encoding="utf-8", newline="") as file:
        dev = [row["text"] for row in csv.DictReader(file)]
    path = write(tmp_path / "a.jsonl", [*TEXTS, *dev[:30]])
    scored = load(path, data=str(data_dir))
    assert scored.splits.dev.texts == dev
    assert set(scored.train.texts).isdisjoint(dev)
    answers = answers_of(scored)
    assert {dev[row] for row in answers.dev_rows} == set(dev[:30])
    assert len(answers.dev_rows) == len(answers.dev_logits)
    with pytest.raises(ToolkitError, match="no rows to learn from beside those of dev"):
        load(write(tmp_path / "b.jsonl", dev), data=str(data_dir))
    few = load(path, data=str(data_dir), max_rows=7)
    assert len(few.inputs[0]) == len(answers_of(few).logits) == 7


def test_a_large_vocabulary_is_cut_to_the_rows_of_the_file(encoder: Path, tmp_path: Path) -> None:
    scored, source = load(write(tmp_path / "a.jsonl", TEXTS)), Source(str(encoder), tmp_path)
    cut = student_data(scored, source, None, 50, tmp_path)
    assert cut.trimmed is not None
    assert cut.encoder.vocabulary_size == len(cut.trimmed.ids) == cut.reader.config.vocab_size
    whole = student_data(scored, source, None, 50_000, tmp_path)
    assert whole.trimmed is None
    for own, full in zip(cut.texts.ids, whole.texts.ids, strict=True):
        assert cut.trimmed.ids[own].tolist() == full.tolist()
