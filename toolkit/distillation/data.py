"""The data of a task distillation: both splits, unlabelled texts, and the teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.config import DistillConfig
from toolkit.data.datasets import Split, load_split, load_texts
from toolkit.data.readers import read_texts
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.files import file_record
from toolkit.metrics import evaluate
from toolkit.models.loading import Source
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits
from toolkit.training.trainer import EncodedDataset


@dataclass(frozen=True)
class DistillationData:
    """What is taught from: the task and both splits; `texts` are those of train and the unlabelled ones, encoded.

    With --augment, `train` is the augmented rows, whose labels nobody reads.
    """

    task: Task
    train: Split
    dev: Split
    encoder: TextEncoder
    texts: EncodedTexts
    dev_encoded: EncodedTexts

    def score(self, model: Any) -> dict[str, float]:
        """All dev metrics of a model."""
        return evaluate(self.task, model_logits(model, self.dev_encoded), self.dev.labels)

    def digests(self, config: DistillConfig) -> dict[str, str]:
        """What was learnt from and scored on: SHA-256 over the rows of both splits, and of the files beside them."""
        files = {"augment": config.augment, "unlabelled": config.unlabelled}
        found = {name: file_record(Path(path))["sha256"] for name, path in files.items() if path}
        return {"train": self.train.digest, "dev": self.dev.digest, **found}


class TeacherLogitsDataset(EncodedDataset):
    """Rows with the teacher's logits, and the data's own labels for the first of them.

    Args:
        texts: n inputs.
        logits: the teacher's, [n, C].
        labels: of the first k <= n inputs; the others have none.
    """

    def __init__(self, texts: EncodedTexts, logits: np.ndarray, labels: np.ndarray) -> None:
        super().__init__(texts, logits)
        self.labels = labels

    def collate(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The batch with targets [B, C], labels [B, ...] and labelled [B], whether a row has one."""
        chosen = np.asarray(rows)
        known = chosen < len(self.labels)
        labels = self.labels[np.where(known, chosen, 0)]
        return super().collate(rows) | {"labels": torch.from_numpy(labels), "labelled": torch.from_numpy(known)}


def load_data(config: DistillConfig, task: Task, source: Source) -> DistillationData:
    """Read and encode both splits and the unlabelled texts that the options name."""
    train = load_texts(task, config.augment) if config.augment else load_split(task, "train", config.data)
    dev = load_split(task, "dev", config.data)
    train = train.head(config.max_rows or len(train), config.seed)
    stored = source.bundle.max_length if source.bundle else None
    encoder = source.encoder(task, config.max_length or stored)
    task = replace(task, max_length=encoder.max_length)
    texts, pairs = train.texts, train.pairs
    if config.unlabelled:
        more, other = read_texts(Path(config.unlabelled), pairs=pairs is not None)
        texts, pairs = texts + more, None if pairs is None or other is None else pairs + other
    return DistillationData(
        task, train, dev, encoder, encoder.encode(texts, pairs), encoder.encode(dev.texts, dev.pairs)
    )
