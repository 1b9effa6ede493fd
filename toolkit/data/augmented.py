"""The rows that `toolkit augment` writes, without those made of rows that choose the step to keep."""

from __future__ import annotations

from pathlib import Path

from toolkit.console import echo
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, load_texts
from toolkit.data.readers import read_rows
from toolkit.data.splits import TaskSplits
from toolkit.data.train_rows import fingerprint
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

Input = tuple[str, str]  # a text and its second text, or the text again where there is none


def load_augmented(task: Task, path: str | Path, splits: TaskSplits, options: DataOptions = DEFAULTS) -> Split:
    """Read augmented rows, without their labels, to learn from instead of train's.

    Rows of train that choose the step are left out, with all rows made of them: the column `origin` numbers the row of
    train that a row is made of.

    Raises:
        ToolkitError: no text that can be read, or, where rows of train choose, a file that was made of other rows or
            does not tell of which.
    """
    rows = load_texts(task, path, options)
    if not len(splits.drawn):
        return rows
    kept = rows.without(_made_of(Path(path), splits))
    echo(
        f"{path}: {len(rows) - len(kept):,} of {len(rows):,} rows are left out: what they are made of chooses the step"
    )
    if not len(kept):
        raise ToolkitError(
            f"{path} holds only copies of rows that choose the step", fix="--selection-rows, with fewer rows"
        )
    return kept


def _made_of(path: Path, splits: TaskSplits) -> set[Input]:
    """Collect the inputs that are made of rows that choose, those rows among them; check every row's origin."""
    train, drawn = splits.train, set(splits.drawn.tolist())
    made_of, origins, originals = splits.drawn_inputs, set[int](), set[int]()
    unknown = ToolkitError(
        f"{path} does not tell which row of {splits.train.source} each of its rows is made of: some may be made of "
        "rows that choose the step",
        expected="the columns origin and copy of toolkit augment, made of the same train file",
        fix="toolkit augment again, or --selection-rows 0, which keeps the last step",
    )
    for row in read_rows(path):
        origin, copy = (_number(row.cells.get(name)) for name in ("origin", "copy"))
        text = str(row.cells.get("text"))
        own = (text, str(row.cells.get("text_pair", text)))
        if origin is None or copy is None or origin >= len(train):
            raise unknown
        origins.add(origin)
        if copy == 0 and fingerprint(*own) == train.fingerprints[origin]:
            originals.add(origin)
        if origin in drawn:
            made_of.add(own)
    if origins != originals:  # the numbers are those of other rows
        raise unknown
    return made_of


def _number(value: object) -> int | None:
    """Read a count from a cell; None where it holds none."""
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() else None
