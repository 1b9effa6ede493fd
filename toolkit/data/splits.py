"""The splits of a training: rows that are learnt from, rows that choose the step to keep, and rows that are reported.

The split that is reported chooses nothing. Where a task has a test split, dev chooses and test is reported, dev beside
it. Otherwise dev is reported, and rows that are taken out of train choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from toolkit.console import echo
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, load_split, load_test, sample_numbers
from toolkit.data.train_rows import TrainRows, load_train
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

FEWEST, MOST = 200, 2_000
TOO_FEW = 20  # rows whose metric is luck: the last step is a better choice
CHECKED_ROWS = 2_000  # of train, where no others may judge the teacher
SELECTION_STREAM = 1  # of random numbers, beside that of a subset, so that neither draw decides the other
Scored = Literal["dev", "test"]
Chooser = Literal["train", "dev"]


@dataclass(frozen=True)
class TaskSplits:
    """The rows of a training.

    Attributes:
        train: all rows of the train split.
        drawn: the numbers of its rows that choose the step to keep; none where dev chooses, or nothing does.
        numbers: those of the rows that are learnt from: train without the ones that choose, or a subset of that.
        learnt: these rows.
        selection: the rows that choose the step to keep; None keeps the last step.
        dev, test: the labelled splits that are scored; `test` is None where there is none.
    """

    train: TrainRows
    drawn: np.ndarray
    numbers: np.ndarray
    learnt: Split
    selection: Split | None
    dev: Split
    test: Split | None

    @property
    def scored(self) -> dict[Scored, Split]:
        """The splits whose scores are recorded, by name; the last one is reported first of all."""
        return {"dev": self.dev} if self.test is None else {"dev": self.dev, "test": self.test}

    @property
    def reported(self) -> Scored:
        """The name of the split that is reported: test where there is one, else dev."""
        return "dev" if self.test is None else "test"

    @property
    def chooser(self) -> Chooser | None:
        """The split whose rows choose the step to keep, or None."""
        if self.selection is None:
            return None
        return "train" if len(self.drawn) else "dev"

    @cached_property
    def judges(self) -> Split:
        """The rows that judge a teacher before training: those that choose, else dev beside a test split, else train's.

        Never the reported ones: the order of a teacher's outputs may be chosen by them.
        """
        if self.selection is not None:
            return self.selection
        if self.test is not None:
            return self.dev
        return self.train.take(sample_numbers(len(self.train), CHECKED_ROWS, 0))

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 over the rows of each split, by name; "train" is the whole of it, "selection" what chooses."""
        splits = {"selection": self.selection, "dev": self.dev, "test": self.test}
        digests = {name: split.digest for name, split in splits.items() if split is not None}
        return {"train": self.train.digest, **digests}

    @property
    def drawn_inputs(self) -> set[tuple[str, str]]:
        """The inputs of the rows of train that choose: nothing that is learnt from is equal to them."""
        return set(self.selection.inputs) if self.selection is not None and len(self.drawn) else set()

    def describe(self) -> str:
        """Say how many rows choose the step to keep, and how many are reported."""
        choosing = "the last step is kept"
        if self.selection is not None:
            choosing = f"{len(self.selection):,} of {self.chooser} choose the step"
        return f"{choosing}, {len(self.scored[self.reported]):,} of {self.reported} are reported"

    def check_patience(self, patience: int | None) -> None:
        """Refuse a patience where no rows choose: nothing would ever be a new best."""
        if patience is not None and self.selection is None:
            raise ToolkitError(
                f"--patience {patience}: no rows choose the step, train has {len(self.train):,}",
                expected=f"{TOO_FEW} rows or more that choose", fix="--selection-rows N, or a test file beside dev",
            )  # fmt: skip


def load_splits(
    task: Task, data: str | None, options: DataOptions = DEFAULTS, *, selection_rows: int | None,
    max_rows: int | None, seed: int,
) -> TaskSplits:  # fmt: skip
    """Read the splits of a task and draw the rows that choose the step to keep.

    Args:
        task: from `resolve_task`.
        data: where its rows are, or None.
        options: columns, the share that is dev, what happens with bad rows.
        selection_rows: rows of train to choose by; None lets dev choose where there is a test split, and else takes
            `default_selection`.
        max_rows: size of the random subset of train's other rows that is learnt from; None takes all.
        seed: of both draws.

    Raises:
        ToolkitError: data that cannot be read, or too few rows to choose by.
    """
    train, dev = load_train(task, data, options), load_split(task, "dev", data, options)
    test = load_test(task, data, options)
    return divide(train, dev, test, selection_rows=selection_rows, max_rows=max_rows, seed=seed)


def divide(
    train: TrainRows, dev: Split, test: Split | None, *, selection_rows: int | None, max_rows: int | None, seed: int
) -> TaskSplits:
    """Draw the rows that choose the step to keep and those that are learnt from; arguments as `load_splits` has them.

    Rows of dev or test that stand in train are said: a model has learnt them.

    Raises:
        ToolkitError: too few rows to choose by.
    """
    for name, split in (("dev", dev), ("test", test)):
        if split is not None and (known := len(train.numbers_in(split))):
            echo(f"{name}: {known:,} of {len(split):,} texts stand in train too: the model has learnt them")
    drawn, selection = np.empty(0, dtype=np.int64), None if test is None else dev
    if test is None or selection_rows is not None:
        drawn, selection = draw_selection(train, selection_rows, seed), None
    others = np.setdiff1d(np.arange(len(train)), drawn)
    numbers = others[sample_numbers(len(others), max_rows, seed)] if max_rows else others
    needed = np.union1d(drawn, numbers)
    rows = train.take(needed)
    if len(drawn):
        selection = rows.take(np.searchsorted(needed, drawn))
    return TaskSplits(train, drawn, numbers, rows.take(np.searchsorted(needed, numbers)), selection, dev, test)


def default_selection(rows: int, single: int) -> int:
    """Count the rows that choose: a tenth of train within bounds, at most a fifth of it, and none where that is few.

    Args:
        rows: of train.
        single: those with an input that no other row has.
    """
    count = min(max(rows // 10, FEWEST), MOST, rows // 5, single)
    return count if count >= TOO_FEW else 0


def draw_selection(train: TrainRows, count: int | None, seed: int) -> np.ndarray:
    """Draw the numbers of the rows that choose, ascending. Inputs that stand in train twice are learnt from instead.

    Raises:
        ToolkitError: train has fewer rows to draw from than `count`, or none would be left.
    """
    single = train.single()
    if count is not None and (count > len(single) or 0 < count == len(train)):
        raise ToolkitError(
            f"--selection-rows {count}: {train.source} has {len(train):,} rows, {len(single):,} of them with a text of "
            "their own",
            expected="fewer of those: the others are learnt from", fix="--selection-rows 0, which keeps the last step",
        )  # fmt: skip
    count = default_selection(len(train), len(single)) if count is None else count
    return np.sort(np.random.default_rng([seed, SELECTION_STREAM]).permutation(single)[:count])
