"""Rows are encoded as each model reads them; large vocabularies are cut; a teacher's logits stand beside the texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bundle.format import open_bundle
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.data import DistillationData, teacher_logits_dataset
from toolkit.distillation.rows import TaskRows
from toolkit.models.loading import Source, output_names


def load(teacher: Path, folder: Path, workdir: Path, **changes: Any) -> DistillationData:
    options: dict[str, Any] = {
        "augment": None, "unlabelled": None, "selection_rows": None, "max_rows": None, "seed": 3,
    }  # fmt: skip
    max_length, source = changes.pop("max_length", None), Source(str(teacher), workdir)
    rows = TaskRows.load(output_names(source.config), "auto", str(folder), **{**options, **changes})
    return DistillationData.read(rows, source, max_length)


def test_rows_are_read_cut_and_named_by_their_digests(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("a warm film\na dull plot\n")
    data = load(teacher, data_dir, tmp_path, unlabelled=str(more), max_rows=10, max_length=4)
    assert (len(data.train), len(data.texts), len(data.splits.dev), len(data.scorer.encoded["dev"])) == (10, 12, 96, 96)
    assert data.task.max_length == data.encoder.max_length == 4
    assert data.texts.lengths.max() == 4
    assert data.splits.selection is not None
    assert data.digests == {
        "train": data.splits.train.digest, "selection": data.splits.selection.digest, "dev": data.splits.dev.digest,
        "unlabelled": hashlib.sha256(more.read_bytes()).hexdigest(),
    }  # fmt: skip
    other = load(teacher, data_dir, tmp_path, max_rows=10, seed=4)
    assert [other.digests[name] == data.digests[name] for name in ("train", "selection", "dev")] == [True, False, True]
    assert other.train.digest != data.train.digest
    assert other.task.max_length == open_bundle(teacher).max_length


def test_a_plain_teacher_s_own_length_is_taken_and_what_it_cuts_is_counted(
    data_dir: Path, tmp_path: Path, tiny_bert: Any, save_model: Callable[..., Path]
) -> None:
    """The task's 128 tokens are not the teacher's."""
    plain = save_model(tiny_bert(max_position_embeddings=200), tmp_path / "plain")
    config = json.loads((plain / "tokenizer_config.json").read_text()) | {"model_max_length": 200}
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(plain, data_dir, tmp_path).task.max_length == 200
    data = load(plain, data_dir, tmp_path, max_length=4)
    assert data.truncation["dev"].texts == len(data.splits.dev)
    assert data.truncation["train"].cut_texts == int(data.texts.truncated.sum()) > 0
    assert data.truncation["train"].max_length == 4


def test_a_row_behind_the_labels_has_none() -> None:
    ids = [np.arange(5, 8 + i) for i in range(3)]
    texts = EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(3, dtype=bool), pad_id=0)
    logits = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch = teacher_logits_dataset(texts, logits, np.array([1, 0])).collate([2, 1])
    assert batch["targets"].tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert batch["labelled"].tolist() == [False, True]
    assert batch["labels"].tolist()[1] == 0
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 8, 0]]
