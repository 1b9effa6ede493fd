"""The rows of a file of answers, whatever made it: those to learn from, to choose by and to report.

A teacher on one machine and a student on another need only this file between them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit.config import DistillConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split, load_test, resolve_task
from toolkit.data.labels import encode_label
from toolkit.data.sources import data_name, is_dev
from toolkit.data.splits import divide
from toolkit.data.train_rows import TrainRows, fingerprints_of
from toolkit.distillation.answers import Answers, read_answers
from toolkit.distillation.rows import FileAnswers, TaskRows
from toolkit.errors import ToolkitError
from toolkit.files import file_record
from toolkit.inference.metrics import predictions
from toolkit.tasks import Task

DEV_SHARE, MAX_DEV = 0.1, 2000  # of the rows that are dev, and of a large file about so many


def load_scored(config: DistillConfig) -> TaskRows:
    """Read the file of answers and the dev split: that of the task's data, else rows of the file itself.

    Rows of the file that are dev or test are not learnt from.

    Raises:
        ToolkitError: answers or data that cannot be used.
    """
    path = Path(str(config.teacher_scores))
    labelled, options = config.data is not None or config.task != "auto", DataOptions.of(config)
    task = resolve_task(str(config.task), config.data, options, title=config.name) if labelled else None
    answers = read_answers(path, task, smoothing=config.smoothing, skip_bad=config.skip_bad_rows)
    if answers.hard and answers.task.kind != "regression":
        echo(f"{path} has labels alone: each is read as a probability of {1 - config.smoothing:g} (--smoothing)")
    task = _with_pairs(answers, path, labelled)
    if not labelled:
        task = replace(task, name=config.name or data_name(str(path)))
    dev = load_split(task, "dev", config.data, options) if labelled else _held_out(answers, task, path)
    test = load_test(task, config.data, options) if labelled else None
    keys, inputs = dev.inputs, answers.inputs
    places, held = {key: row for row, key in enumerate(inputs)}, {*keys, *(() if test is None else test.inputs)}
    rows = np.array([row for row, key in enumerate(inputs) if key not in held], dtype=np.int64)
    if not len(rows):
        raise ToolkitError(f"{path} has no rows to learn from beside those of dev", expected="answers to other texts")
    dev_rows = np.array([row for row, key in enumerate(keys) if key in places], dtype=np.int64)
    dev_logits = answers.take([places[keys[row]] for row in dev_rows]).logits
    splits = divide(
        _train_rows(answers.take(rows), task, path), dev, test, selection_rows=config.selection_rows,
        max_rows=config.max_rows, seed=config.seed,
    )  # fmt: skip
    learnt = answers.take(rows[splits.numbers])
    train = Split(learnt.texts, learnt.pairs, np.zeros(len(learnt), dtype=np.int64), str(path))
    digests = splits.digests | {"teacher scores": file_record(path)["sha256"]}
    known = FileAnswers(learnt.logits, dev_rows, dev_logits)
    return TaskRows(task, splits, train, (train.texts, train.pairs), digests, known)


def _train_rows(answers: Answers, task: Task, path: Path) -> TrainRows:
    """Give answered rows as those of a train split; their labels, by which they choose, are the teacher's answers."""
    rows = Split(answers.texts, answers.pairs, predictions(answers.logits, task.kind), str(path))
    return TrainRows(fingerprints_of(rows), rows.digest, str(path), rows.take)


def _with_pairs(answers: Answers, path: Path, labelled: bool) -> Task:
    """Give the task of the answers; one that is inferred from the file is about pairs where the file has them."""
    task = answers.task
    if not labelled:
        return replace(task, pair_column=None if answers.pairs is None else "text_pair")
    if (answers.pairs is None) != (task.pair_column is None):
        raise ToolkitError(
            f"{path} holds {'single texts' if answers.pairs is None else 'pairs of texts'}",
            expected=f"{'pairs of texts' if answers.pairs is None else 'single texts'}, as {task.name} is about",
        )
    return task


def _held_out(answers: Answers, task: Task, path: Path) -> Split:
    """Choose dev rows by their texts: equal texts are on the same side, whatever their order.

    Their labels are those of people where the file has them, else the teacher's answers.
    """
    share = min(DEV_SHARE, MAX_DEV / len(answers))
    held = answers.take([row for row, text in enumerate(answers.texts) if is_dev(text, share)])
    if not len(held):
        raise ToolkitError(f"{path} has too few rows to hold some out for dev", expected="some hundred, or --data DIR")
    if held.gold is None:
        echo(f"dev: {len(held):,} rows of {path}, with the teacher's own answers as labels")
        labels = predictions(held.logits, task.kind)
    else:
        echo(f"dev: {len(held):,} rows of {path}, with the labels in its column label")
        encoded = [encode_label(task, cell) for cell in held.gold]
        if problem := next((problem for _, problem in encoded if problem), None):
            raise ToolkitError(f"{path}, column 'label': {problem[0]}", expected=problem[1])
        labels = np.array([label for label, _ in encoded])
    return Split(held.texts, held.pairs, labels, f"{path}, rows held out")
