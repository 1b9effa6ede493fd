"""No row that is made of a row that chooses the step is learnt from."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from toolkit.data.augmented import load_augmented
from toolkit.data.datasets import Split
from toolkit.data.splits import TaskSplits
from toolkit.data.train_rows import TrainRows, fingerprint
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

TASK = Task("auto", ("a", "b"))
TRAIN = Split(["red", "green", "blue", "white"], None, np.array([0, 1, 0, 1]), "train.csv")
ROWS = [
    ("red", 0, 0), ("crimson", 0, 1), ("green", 1, 0), ("olive", 1, 1), ("teal", 1, 2), ("blue", 2, 0), ("olive", 2, 1),
    ("green", 2, 2), ("navy", 2, 3), ("white", 3, 0),
]  # fmt: skip


def splits(*drawn: int, train: Split = TRAIN) -> TaskSplits:
    numbers, prints = np.array(drawn, dtype=np.int64), [fingerprint(*own) for own in train.inputs]
    rows = TrainRows(np.array(prints, dtype=np.uint64), train.digest, train.source, train.take)
    dev = Split(["x"], None, np.array([0]), "dev.csv")
    return TaskSplits(
        rows, numbers, np.arange(len(train)), train, train.take(numbers) if drawn else dev, dev, None if drawn else dev
    )


def write(path: Path, rows: list[tuple[object, ...]], head: tuple[str, ...] = ("text", "origin", "copy")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def test_copies_of_rows_that_choose_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", list(ROWS))
    kept = load_augmented(TASK, path, splits(1))
    # "olive" and "green" of the third row are the text of a copy and of the row that chooses
    assert kept.texts == ["red", "crimson", "blue", "navy", "white"]
    assert f"{path}: 5 of 10 rows are left out" in capsys.readouterr().out
    shuffled = write(tmp_path / "b.csv", list(reversed(ROWS)))
    assert load_augmented(TASK, shuffled, splits(1)).texts == kept.texts[::-1]
    assert load_augmented(TASK, path, splits()).texts == [text for text, *_ in ROWS], "dev chooses, all are learnt from"
    with pytest.raises(ToolkitError, match="holds only copies of rows that choose"):
        load_augmented(TASK, path, splits(0, 1, 2, 3))


def test_a_file_that_does_not_tell_what_its_rows_are_made_of_is_refused(tmp_path: Path) -> None:
    other = [("red", 1, 0), ("green", 0, 0)]
    no_original = [("crimson", 0, 1), ("green", 1, 0)]
    paths = [
        write(tmp_path / "none.csv", [("red",), ("crimson",)], ("text",)),
        write(tmp_path / "other.csv", other), write(tmp_path / "half.csv", no_original),
        write(tmp_path / "many.csv", [("red", 4, 0)]), write(tmp_path / "odd.csv", [("red", "-1", 0)]),
        tmp_path / "lines.txt",
    ]  # fmt: skip
    paths[-1].write_text("red\ncrimson\n")
    for path in paths:
        with pytest.raises(ToolkitError, match=r"does not tell which row of train\.csv each") as caught:
            load_augmented(TASK, path, splits(1))
        assert "--selection-rows 0" in caught.value.fix
        assert len(load_augmented(TASK, path, splits())) == 2 or path.stem in ("many", "odd")


def test_pairs_are_told_apart_by_both_texts(tmp_path: Path) -> None:
    train = Split(["q", "q"], ["one", "two"], np.array([0, 1]), "train.csv")
    rows: list[tuple[object, ...]] = [("q", "one", 0, 0), ("q", "uno", 0, 1), ("q", "two", 1, 0), ("q", "due", 1, 1)]
    path = write(tmp_path / "a.csv", rows, ("text", "text_pair", "origin", "copy"))
    kept = load_augmented(Task("auto", ("a", "b"), pair_column="text_pair"), path, splits(0, train=train))
    assert (kept.texts, kept.pairs) == (["q", "q"], ["two", "due"])
