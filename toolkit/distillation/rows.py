"""The rows that a student learns from and is scored on, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.augmented import load_augmented
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, load_texts, resolve_task
from toolkit.data.splits import TaskSplits, load_splits
from toolkit.distillation.answer_cache import Inputs
from toolkit.distillation.labels import in_teacher_order
from toolkit.files import file_record
from toolkit.tasks import Task


@dataclass(frozen=True)
class FileAnswers:
    """What a file has of a teacher's answers to rows.

    Attributes:
        logits: to the texts that are learnt from, [n, C].
        dev_rows: numbers of the dev rows that have an answer, [k].
        dev_logits: those answers, [k, C].
    """

    logits: np.ndarray
    dev_rows: np.ndarray
    dev_logits: np.ndarray


@dataclass(frozen=True)
class TaskRows:
    """Labelled and unlabelled rows of a task.

    Attributes:
        task: with its own length.
        splits: rows that are learnt from, that choose, and that are reported.
        train: the rows of the task that are learnt from; with --augment the augmented ones, and with a file of answers
            those of the file, whose labels are not read.
        inputs: the training texts, then the unlabelled ones, and for pairs the second texts.
        digests: SHA-256 of the rows of all splits and of the files that are learnt from, by name.
        answers: of the file that the rows are from; None where a teacher is asked.
    """

    task: Task
    splits: TaskSplits
    train: Split
    inputs: Inputs
    digests: dict[str, str]
    answers: FileAnswers | None = None

    @classmethod
    def load(
        cls, outputs: Sequence[str], task_name: str, folder: str | None, *, augment: str | None, unlabelled: str | None,
        selection_rows: int | None, max_rows: int | None, seed: int, options: DataOptions = DEFAULTS,
        title: str | None = None,
    ) -> TaskRows:  # fmt: skip
        """Read all splits of a task and the unlabelled texts.

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
        splits = load_splits(task, folder, options, selection_rows=selection_rows, max_rows=max_rows, seed=seed)
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
