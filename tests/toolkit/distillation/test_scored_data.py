"""Rows of a file of answers are learnt from or are dev, never both; agreement is counted where answers are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.data import rows
from toolkit.config import DistillConfig
from toolkit.distillation.scored_data import ScoredData, load_scored
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


def load(path: Path, encoder: Path, workdir: Path, **options: object) -> ScoredData:
    workdir.mkdir()
    config = DistillConfig(None, "auto", "o", teacher_scores=str(path), init=str(encoder), **options)  # type: ignore[arg-type]
    return load_scored(config, Source(str(encoder), workdir), workdir)


def test_rows_are_held_out_by_their_texts_alone(encoder: Path, tmp_path: Path) -> None:
    first = load(write(tmp_path / "a.jsonl", TEXTS), encoder, tmp_path / "1")
    second = load(write(tmp_path / "b.jsonl", TEXTS[::-1] + TEXTS), encoder, tmp_path / "2")
    held = set(first.data.splits.dev.texts)
    assert 0 < len(held) < 40
    assert held == set(second.data.splits.dev.texts)
    assert held.isdisjoint(first.data.train.texts)
    choosing = first.data.splits.selection
    assert choosing is not None
    assert {*choosing.texts}.isdisjoint({*first.data.train.texts, *held}), "nor learnt from, nor reported"
    assert choosing.labels.tolist() == [TEXTS.index(text) % 2 for text in choosing.texts]
    assert len(first.data.train) + len(first.data.splits.dev) + len(choosing) == len(TEXTS)
    assert second.data.splits.selection is None, "every text stands twice"
    assert len(first.data.texts) == len(first.logits) == len(first.data.train)
    labels = [TEXTS.index(text) % 2 for text in first.data.splits.dev.texts]
    assert first.data.splits.dev.labels.tolist() == labels, "the teacher's own answers"
    assert first.teacher_metrics()["accuracy"] == 1.0
    assert set(first.data.digests) == {"train", "selection", "dev", "teacher scores"}


def test_labels_of_people_are_dev_s_where_the_file_has_them(encoder: Path, tmp_path: Path) -> None:
    names = ["negative", "positive"]
    answers = [names[i % 2] for i in range(len(TEXTS))]
    path = write(tmp_path / "a.jsonl", TEXTS, predicted_label=answers, label=["positive"] * len(TEXTS))
    scored = load(path, encoder, tmp_path / "1")
    assert set(scored.data.splits.dev.labels.tolist()) == {1}
    positive = np.mean([TEXTS.index(text) % 2 for text in scored.data.splits.dev.texts])
    assert scored.teacher_metrics()["accuracy"] == pytest.approx(positive)


def test_dev_of_the_task_s_data_is_not_learnt_from(encoder: Path, data_dir: Path, tmp_path: Path) -> None:
    import csv

    with (data_dir / "dev.csv").open(encoding="utf-8", newline="") as file:
        dev = [row["text"] for row in csv.DictReader(file)]
    path = write(tmp_path / "a.jsonl", [*TEXTS, *dev[:30]])
    scored = load(path, encoder, tmp_path / "1", data=str(data_dir))
    assert scored.data.splits.dev.texts == dev
    assert set(scored.data.train.texts).isdisjoint(dev)
    assert [dev[row] in dev[:30] for row in scored.dev_rows] == [True] * len(scored.dev_rows)
    assert scored.teacher_metrics() == {}, "some dev rows have no answer"
    logits = np.zeros((len(dev), 2), dtype=np.float32)
    logits[scored.dev_rows] = scored.dev_logits
    assert scored.agreement(logits) == 1.0
    assert scored.agreement(-logits) == 0.0
    with pytest.raises(ToolkitError, match="no rows to learn from beside those of dev"):
        load(write(tmp_path / "b.jsonl", dev), encoder, tmp_path / "2", data=str(data_dir))
    few = load(path, encoder, tmp_path / "3", data=str(data_dir), max_rows=7)
    assert len(few.data.texts) == len(few.logits) == 7


def test_a_large_vocabulary_is_cut_to_the_rows_of_the_file(encoder: Path, tmp_path: Path) -> None:
    scored = load(write(tmp_path / "a.jsonl", TEXTS), encoder, tmp_path / "1", vocabulary_limit=50)
    assert scored.trimmed is not None
    assert scored.data.encoder.vocabulary_size == len(scored.trimmed.ids) == scored.reader.config.vocab_size
    whole = load(write(tmp_path / "b.jsonl", TEXTS), encoder, tmp_path / "2")
    assert whole.trimmed is None
    for cut, full in zip(scored.data.texts.ids, whole.data.texts.ids, strict=True):
        assert scored.trimmed.ids[cut].tolist() == full.tolist()
