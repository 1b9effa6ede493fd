"""Labels as files hold them: classes, numbers or lists of classes; the task they make, and their numbers in it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.readers import Row
from toolkit.errors import ToolkitError, raise_problems
from toolkit.tasks import TASKS, Task

MAX_NUMBERED_CLASSES = 50  # more distinct whole numbers than this are a quantity to regress, not classes
SEPARATORS = "|;"  # classes of text in a cell; a comma may be part of a class name
BRACKETS = ("[", "(", "{")


def infer_task(rows: Sequence[Row], path: Path) -> Task:
    """Infer the task from the column `label`: classes, a regression, or lists of classes.

    Raises:
        ToolkitError: fewer than two classes, or class names that look like lists.
    """
    values = [read_label(row.cells.get("label")) for row in rows]
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        names = sorted({str(name) for value in lists for name in value}, key=_natural)
        return Task("auto", tuple(names), kind="multi_label", metrics=("f1", "accuracy"))
    values = [value for value in values if value is not None and value != ""]  # missing ones are reported later
    numbers = [number_of(value) for value in values]
    whole = all(number is None or number == int(number) for number in numbers)
    if values and None not in numbers and not (whole and len(set(numbers)) <= MAX_NUMBERED_CLASSES):
        return Task("auto", ("score",), kind="regression", metrics=("spearman", "pearson"))
    raise_problems(
        _list_problems(rows), subject=str(path),
        fix='several classes of a row as JSON, in CSV as "[""food"", ""sport""]"; or another name for a class',
    )  # fmt: skip
    names = sorted({_class_name(value) for value in values}, key=_natural)
    if len(names) < 2:
        raise ToolkitError(f"{path}: {len(names)} distinct label(s) in column 'label'", expected="at least two classes")
    return Task("auto", tuple(names), metrics=("accuracy", "f1"))


def encode_label(task: Task, cell: Any) -> tuple[Any, str]:
    """Give a label as the model counts it, and the problem with it ("" for none)."""
    value = read_label(cell)
    if task.kind == "regression":
        number = number_of(value)
        return (number or 0.0), "" if number is not None else f"{value!r}, expected a number"
    if task.kind == "multi_label":
        names = [str(name) for name in value] if isinstance(value, list) else [f"{value!r}"]
        unknown = [name for name in names if name not in task.labels]
        problem = f"{unknown}, expected a list out of {_some(task.labels)}" if unknown else ""
        return [int(name in names) for name in task.labels], problem
    name = _class_name(value)
    if name in task.labels:
        return task.labels.index(name), ""
    if name.isdecimal() and int(name) < len(task.labels) and task.name in TASKS:
        return int(name), ""
    return 0, f"{value!r}, expected one of {_some(task.labels)}"


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


def number_of(value: Any) -> float | None:
    """Give a label as a finite number, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _list_problems(rows: Sequence[Row]) -> Iterator[str]:
    """List class names that look like lists: in brackets, with a separator, or classes of other rows with commas."""
    counts = Counter(_class_name(row.cells.get("label")) for row in rows)
    suspects = {name for name in counts if _looks_like_a_list(name, counts)}
    for row in rows:
        if (name := _class_name(row.cells.get("label"))) in suspects:
            yield f"line {row.line}, column 'label': {name!r} looks like a list, expected one class"


def _looks_like_a_list(name: str, names: Counter[str]) -> bool:
    parts = [part.strip() for part in name.split(",")]
    return (
        name.startswith(BRACKETS) or any(separator in name for separator in SEPARATORS)
        or (len(parts) > 1 and all(part in names for part in parts))
    )  # fmt: skip


def _natural(name: str) -> tuple[float, str]:
    number = number_of(name)
    return (math.inf if number is None else number, name)


def _class_name(value: Any) -> str:
    """Name a class: 1, 1.0 and "1" are the same, since readers differ in the type of a number."""
    number = number_of(value)
    return str(int(number)) if number is not None and number == int(number) else str(value).strip()


def _some(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return ", ".join(labels[:10]) + more
