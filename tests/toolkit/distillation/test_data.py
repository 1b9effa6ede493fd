"""The rows that a student learns from: unlabelled text, labels where there are any, digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.data import rows
from tests.support.distillation import distill
from toolkit.bundle.format import open_bundle
from toolkit.data.columns import DataOptions
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.data import DistillationData, TaskRows, teacher_logits_dataset
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source, output_names


def test_unlabelled_text_is_learnt_from_too(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in rows(100, seed=9)))
    plain = distill(teacher, data_dir, tmp_path / "a", intermediate_epochs=1, prediction_epochs=1)
    fuller = distill(
        teacher, data_dir, tmp_path / "b", intermediate_epochs=1, prediction_epochs=1, unlabelled=str(more)
    )
    steps = [[m["stages"][name]["steps"] for name in ("intermediate", "prediction")] for m in (plain, fuller)]
    assert steps == [[8, 8], [12, 12]]  # 256 rows, then 356, 32 a step
    assert set(fuller["data"]) == {"train", "selection", "dev", "unlabelled"}
    more.write_text("  \n")
    with pytest.raises(ToolkitError, match="no such file"):
        distill(teacher, data_dir, tmp_path / "c", unlabelled=str(tmp_path / "gone.txt"))


def load(teacher: Path, folder: Path, workdir: Path, **changes: Any) -> DistillationData:
    options: dict[str, Any] = {
        "augment": None, "unlabelled": None, "selection_rows": None, "max_rows": None, "seed": 3,
    }  # fmt: skip
    max_length, source = changes.pop("max_length", None), Source(str(teacher), workdir)
    read = TaskRows.load(output_names(source.config), "auto", str(folder), **{**options, **changes})
    return read.read_by(source, max_length)


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


def test_bad_rows_of_every_file_are_left_out_where_the_user_says_so(teacher: Path, tmp_path: Path) -> None:
    for name in ("train.csv", "dev.csv", "more.csv"):
        (tmp_path / name).write_text('text,label\n"a warm film",positive\n"",negative\n"a dull plot",negative\n')
    for unlabelled in (None, str(tmp_path / "more.csv")):
        with pytest.raises(ToolkitError, match="line 3, column 'text'"):
            load(teacher, tmp_path, tmp_path, unlabelled=unlabelled)
    data = load(
        teacher, tmp_path, tmp_path, unlabelled=str(tmp_path / "more.csv"), options=DataOptions(skip_bad_rows=True)
    )
    assert (len(data.train), len(data.splits.dev), len(data.texts)) == (2, 2, 4)


def test_a_row_behind_the_labels_has_none() -> None:
    ids = [np.arange(5, 8 + i) for i in range(3)]
    texts = EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(3, dtype=bool), pad_id=0)
    logits = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch = teacher_logits_dataset(texts, logits, np.array([1, 0])).collate([2, 1])
    assert batch["targets"].tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert batch["labelled"].tolist() == [False, True]
    assert batch["labels"].tolist()[1] == 0
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 8, 0]]
