"""Labels as files hold them: classes, numbers or lists of classes; the task they make, and their numbers in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toolkit.data.readers import Column, Row
from toolkit.data.row_problems import RowProblem, RowProblems
from toolkit.errors import ToolkitError, some
from toolkit.tasks import TASKS, Task

MAX_NUMBERED_CLASSES = 50  # more distinct whole numbers than this are a quantity to regress, not classes
MAX_CLASSES = 100_000  # more names are no classes but, for example, the texts
SEPARATORS = "|;"  # classes of text in a cell; a comma may be part of a class name
BRACKETS = ("[", "(", "{")


def infer_task(rows: Iterable[Row], label: Column, table: str) -> Task:
    """Infer the task from a column: classes, a regression, or lists of classes.

    Args:
        rows: read once; of their labels only those that differ are kept.
        label: the column.
        table: name for messages.

    Raises:
        ToolkitError: fewer than two classes, more than MAX_CLASSES, or class names that look like lists.
    """
    values = _Values()
    for row in rows:
        values.add(row, label)
        if len(values.lines) > MAX_CLASSES and (values.classes or values.lists):
            raise ToolkitError(
                f"{table}: more than {MAX_CLASSES:,} distinct labels in column {label!r}",
                expected="classes", fix="--label-column NAME, where another column holds them",
            )  # fmt: skip
    if values.lists:
        return Task("auto", tuple(sorted(values.members, key=_natural)), kind="multi_label", metrics=("f1", "accuracy"))
    if values.numbers and not values.classes and (values.fractions or len(values.numbers) > MAX_NUMBERED_CLASSES):
        return Task("auto", ("score",), kind="regression", metrics=("spearman", "pearson"))
    problems = RowProblems(table)
    for name, line in values.lines.items():
        if _looks_like_a_list(name, values.lines):
            problems.is_good([RowProblem(line, f"column {label!r}", f"{name!r} looks like a list", "one class")])
    problems.settle('several classes of a row as JSON, in CSV as "[""food"", ""sport""]"; or another name for a class')
    names = sorted(values.lines, key=_natural)
    if len(names) < 2:
        problem = f"all labels in column {label!r} are {names[0]!r}" if names else f"no label in column {label!r}"
        raise ToolkitError(
            f"{table}: {problem}",
            expected="at least two classes", fix="--label-column NAME, where another column holds them",
        )  # fmt: skip
    return Task("auto", tuple(names), metrics=("accuracy", "f1"))


@dataclass
class _Values:
    """The distinct labels of a column: names by their first line, and what speaks for each kind of task."""

    lines: dict[str, int] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)
    lists: bool = False
    fractions: bool = False
    classes: bool = False

    def add(self, row: Row, label: Column) -> None:
        """Take a row's cell in the column `label` into account; a missing one says nothing."""
        value = read_label(row.cells.get(label))
        if isinstance(value, list):
            self.lists = True
            self.members |= set(map(str, value))
        elif not is_missing(value):  # missing ones are reported later
            if (number := number_of(value)) is None:
                self.classes = True
            else:
                self.fractions |= number != int(number)
                if len(self.numbers) <= MAX_NUMBERED_CLASSES:
                    self.numbers.add(number)
            if len(self.lines) <= MAX_CLASSES:
                self.lines.setdefault(class_name(value), row.line)


def encode_label(task: Task, cell: Any) -> tuple[Any, tuple[str, str] | None]:
    """Give a label as the model counts it, and where it is none, what stands there and what is expected."""
    value = read_label(cell)
    if task.kind == "regression":
        number = number_of(value)
        return (number or 0.0), None if number is not None else (repr(value), "a number")
    if task.kind == "multi_label":
        names = [str(name) for name in value] if isinstance(value, list) else [f"{value!r}"]
        unknown = [name for name in names if name not in task.labels]
        problem = (str(unknown), f"a list out of {some(task.labels)}") if unknown else None
        return [int(name in names) for name in task.labels], problem
    name = class_name(value)
    if name in task.labels:
        return task.labels.index(name), None
    if name.isdecimal() and int(name) < len(task.labels) and task.name in TASKS:
        return int(name), None
    return 0, (repr(value), f"one of {some(task.labels)}")


def read_label(cell: Any) -> Any:
    """Read a cell: an array is a list of classes, and so is a text that is a JSON list of texts and numbers."""
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if isinstance(cell, str) and cell.strip().startswith("["):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return value if all(isinstance(name, str | int | float) for name in value) else cell
    return cell


def is_missing(label: Any) -> bool:
    """Tell whether a label says nothing: none, an empty cell, or NaN, as a number or in letters."""
    return label is None or label == "" or str(label).strip().lower() == "nan"


def number_of(value: Any) -> float | None:
    """Give a label as a finite number, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _looks_like_a_list(name: str, names: Mapping[str, int]) -> bool:
    parts = [part.strip() for part in name.split(",")]
    return (
        name.startswith(BRACKETS) or any(separator in name for separator in SEPARATORS)
        or (len(parts) > 1 and all(part in names for part in parts))
    )  # fmt: skip


def _natural(name: str) -> tuple[float, str]:
    number = number_of(name)
    return (math.inf if number is None else number, name)


def class_name(value: Any) -> str:
    """Name a class: 1, 1.0 and "1" are the same, since readers differ in the type of a number."""
    number = number_of(value)
    return str(int(number)) if number is not None and number == int(number) else str(value).strip()
