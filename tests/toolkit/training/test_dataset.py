"""Batches hold the chosen rows in their order, padded to the longest, each column beside them with its type."""

from __future__ import annotations

import numpy as np
import torch

from toolkit.data.tokenization import EncodedTexts
from toolkit.training.dataset import EncodedDataset

IDS = [np.array([2, 7, 3]), np.array([2, 8, 9, 3]), np.array([2, 3])]
TEXTS = EncodedTexts(IDS, [np.zeros_like(row) for row in IDS], np.zeros(3, dtype=bool), pad_id=1)


def test_rows_are_padded_and_columns_follow_them() -> None:
    dataset = EncodedDataset(TEXTS, np.array([0.5, 1.5, 2.5], dtype=np.float32), labels=np.array([4, 5, 6]))
    batch = dataset.collate([2, 0])
    assert len(dataset) == 3
    assert batch["input_ids"].tolist() == [[2, 3, 1], [2, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["targets"].tolist() == [2.5, 0.5]
    assert batch["targets"].dtype == torch.float32
    assert batch["labels"].tolist() == [6, 4]
    assert batch["labels"].dtype == torch.int64


def test_without_columns_a_batch_holds_the_inputs_alone() -> None:
    assert set(EncodedDataset(TEXTS).collate([0])) == {"input_ids", "attention_mask", "token_type_ids"}
