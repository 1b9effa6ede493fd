"""The data of a task distillation: its splits, unlabelled texts, and the teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.augmented import load_augmented
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, load_texts, resolve_task
from toolkit.data.splits import TaskSplits, load_splits
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.data.truncation import Truncation, measure_truncation
from toolkit.distillation.answer_cache import AnswerCache, Inputs
from toolkit.distillation.labels import in_teacher_order
from toolkit.files import file_record
from toolkit.models.loading import Source
from toolkit.tasks import Task
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import model_logits
from toolkit.training.scoring import SplitScorer

TEACHER_LOGITS = "the teacher's answers"  # name of the phase, and of its progress bar


@dataclass(frozen=True)
class TaskRows:
    """Labelled and unlabelled rows of a task, as text.

    Attributes:
        task: with its own length.
        splits: rows that are learnt from, that choose, and that are reported.
        train: the labelled rows that are learnt from. With --augment the augmented ones, whose labels are not read.
        inputs: the training texts, then the unlabelled ones, and for pairs the second texts.
        digests: SHA-256 of the rows of all splits and of the files of --augment and --unlabelled, by name.
    """

    task: Task
    splits: TaskSplits
    train: Split
    inputs: Inputs
    digests: dict[str, str]

    @classmethod
    def load(
        cls, outputs: Sequence[str], task_name: str, folder: str | None, *, augment: str | None, unlabelled: str | None,
        selection_rows: int | None, max_rows: int | None, seed: int, options: DataOptions = DEFAULTS,
        title: str | None = None,
    ) -> TaskRows:  # fmt: skip
        """Read all splits and the unlabelled texts.

        Args:
            outputs: names of the teacher's outputs, whose order the labels of one's own task take.
            task_name, folder: the task, and where its rows are or None.
            augment: a file whose rows replace the training rows.
            unlabelled: a file of more texts.
            selection_rows: rows of train that choose the step to keep, see `load_splits`.
            max_rows: size of the random subset of training rows; None takes all.
            seed: of the rows that choose and of the subset.
            title: name of a task of one's own; None for that of its data.
            options: columns, the share that is dev, what happens with bad rows.

        Raises:
            ToolkitError: data that cannot be read.
        """
        task = resolve_task(task_name, folder, options, title=title)
        if task_name == "auto":
            task = in_teacher_order(task, outputs)
        splits = load_splits(
            task, folder, options, selection_rows=selection_rows, max_rows=max_rows, seed=seed
        )  # fmt: skip
        train = splits.learnt
        if augment:
            train = load_augmented(task, augment, splits, options)
            train = train.subsample(max_rows or len(train), seed)
        texts, pairs = train.texts, train.pairs
        if unlabelled:
            more = load_texts(task, unlabelled, options).without(splits.drawn_inputs)
            texts, pairs = texts + more.texts, None if pairs is None or more.pairs is None else pairs + more.pairs
        files = {"augment": augment, "unlabelled": unlabelled}
        digests = {name: file_record(Path(path))["sha256"] for name, path in files.items() if path}
        return cls(task, splits, train, (texts, pairs), splits.digests | digests)

    def read_by(self, source: Source, max_length: int | None) -> DistillationData:
        """Encode all rows by a model's tokenizer.

        Args:
            source: the model.
            max_length: tokens at which texts are truncated; None takes the model's `stated_length`.

        Raises:
            ToolkitError: a length without positions in the model.
        """
        encoder = source.encoder(self.task, max_length or source.stated_length)
        task = replace(self.task, max_length=encoder.max_length)
        encoded, scorer = encoder.encode(*self.inputs), SplitScorer(task, self.splits, encoder)
        truncation = {"train": measure_truncation(encoder, encoded, *self.inputs), **scorer.truncation}
        return DistillationData(
            task, self.splits, self.train, encoder, self.inputs, encoded, scorer, self.digests, truncation
        )


@dataclass(frozen=True)
class DistillationData:
    """The rows of a task, encoded for one model: for the student, or for a teacher that reads other word pieces.

    Attributes:
        task: with the length at which texts are truncated.
        splits, train, inputs, digests: as in `TaskRows`.
        encoder: the model's tokenizer.
        texts: `inputs`, encoded.
        scorer: the rows that choose and that are reported, encoded.
        truncation: shares that are cut, of "train" (with the unlabelled texts) and of each split that is scored.
    """

    task: Task
    splits: TaskSplits
    train: Split
    encoder: TextEncoder
    inputs: Inputs
    texts: EncodedTexts
    scorer: SplitScorer
    digests: dict[str, str]
    truncation: dict[str, Truncation]

    def answers(self, teacher: Any, precision: str, cache: AnswerCache | None = None) -> np.ndarray:
        """Run the teacher on all training texts once, with its matrix products in `precision`; return logits [n, C].

        Args:
            teacher: a classifier in eval mode, its outputs in the task's order, that reads these ids.
            precision: of the matrix products.
            cache: has the answers to some texts, and gets those to the others; None asks for all.
        """

        def ask(rows: np.ndarray) -> np.ndarray:
            return model_logits(teacher, self.texts.take(rows), TEACHER_LOGITS, precision)

        return ask(np.arange(len(self.texts))) if cache is None else cache.logits(self.inputs, ask)


def teacher_logits_dataset(texts: EncodedTexts, logits: np.ndarray, labels: np.ndarray) -> EncodedDataset:
    """Join n encoded texts with the teacher's logits [n, C], and with labels [k, ...] of the first k <= n texts.

    Returns:
        A dataset with the columns targets [n, C], labels [n, ...], 0 where there is none, and labelled [n] bool.
    """
    padded = np.zeros((len(texts), *labels.shape[1:]), dtype=labels.dtype)
    padded[: len(labels)] = labels
    return EncodedDataset(texts, logits, labels=padded, labelled=np.arange(len(texts)) < len(labels))
