"""A stage's steps: which rows each takes, split over processes and forward passes, at which rate, and when dev is due.

A step's rows are a function of the seed and the step's number, so a run can go on at any of them, and each process
knows the others' rows without asking. Batches are of like length, so that little padding is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.data.batching import shuffled_batches

Unit = Literal["rows", "tokens", "pairs"]  # of which a loss is the mean; pairs of real tokens of one row


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast a stage learns.

    Attributes:
        epochs, lr, weight_decay, seed: passes over the rows, the rate at its peak, AdamW's decay, of the order.
        batch_size: rows a process takes in one forward pass.
        warmup: share of the steps with a rising rate.
        evaluations: on dev, an epoch.
        patience: evaluations without a new best after which the stage ends; None never ends it early.
        accumulation: forward passes a process makes for one step.
        precision: fp32, bf16, fp16, or auto: what the GPU is made for, fp32 without one. Losses are float32 in each.
    """

    epochs: int
    lr: float
    batch_size: int
    warmup: float
    weight_decay: float
    seed: int
    evaluations: int = 1
    patience: int | None = None
    accumulation: int = 1
    precision: str = "fp32"

    @classmethod
    def from_config(
        cls, config: FinetuneConfig | DistillConfig, epochs: int, lr: float | None, evaluations: int = 1
    ) -> TrainingSchedule:
        """Schedule a stage of a command whose options are resolved."""
        assert lr is not None
        assert config.accumulation is not None
        return cls(
            epochs, lr, config.batch_size, config.warmup, config.weight_decay, config.seed, evaluations,
            patience=config.patience, accumulation=config.accumulation, precision=config.precision,
        )  # fmt: skip


@dataclass(frozen=True)
class MicroBatch:
    """What one process takes in one forward pass of a step.

    Attributes:
        rows: row numbers.
        share: of the whole step's "rows", real "tokens" and "pairs" of real tokens: what an average over this part
            weighs in the average over the step. 0 where a step has fewer rows than parts, and one is shown again.
    """

    rows: np.ndarray
    share: dict[Unit, float]


class BatchSchedule:
    """Every row once an epoch, in random batches of like length; the last step of an epoch may be smaller.

    Args:
        lengths: tokens of each row, [n].
        schedule: of the stage.
        processes, process: how many there are, and which this one is.
    """

    def __init__(self, lengths: np.ndarray, schedule: TrainingSchedule, processes: int = 1, process: int = 0) -> None:
        self.lengths, self.schedule = lengths, schedule
        self._parts = processes * schedule.accumulation
        self._mine = slice(process * schedule.accumulation, (process + 1) * schedule.accumulation)
        self._rows = schedule.batch_size * self._parts
        self._an_epoch = -(-len(lengths) // self._rows)

    def __len__(self) -> int:
        return self.schedule.epochs * self._an_epoch

    @property
    def evaluations(self) -> set[int]:
        """The steps, counted from 1, after which dev is scored, evenly spread; the last is one of them."""
        count = self.schedule.epochs * self.schedule.evaluations
        return {max(round(len(self) * i / count), 1) for i in range(1, count + 1)}

    def rate(self, done: int) -> float:
        """Learning rate of the step after `done`: linear up over the warm-up, then linear down to 0."""
        total, rising = len(self), max(int(len(self) * self.schedule.warmup), 1)
        return self.schedule.lr * min((done + 1) / rising, (total - done) / max(total - rising, 1), 1.0)

    def after(self, done: int) -> Iterator[list[MicroBatch]]:
        """This process's parts of each step that follows the first `done`."""
        for epoch in range(done // self._an_epoch, self.schedule.epochs):
            batches = shuffled_batches(self.lengths, self._rows, self.schedule.seed, epoch)
            for rows in islice(batches, max(done - epoch * self._an_epoch, 0), None):
                yield self._split(rows)

    def _split(self, rows: np.ndarray) -> list[MicroBatch]:
        whole = self._count(rows)
        pieces = np.array_split(rows, self._parts)[self._mine]
        return [
            MicroBatch(piece, {unit: count / whole[unit] for unit, count in self._count(piece).items()})
            if len(piece)
            else MicroBatch(rows[:1], dict.fromkeys(whole, 0.0))  # every process must pass, or the others wait for it
            for piece in pieces
        ]

    def _count(self, rows: np.ndarray) -> dict[Unit, float]:
        lengths = self.lengths[rows].astype(float)
        return {"rows": float(len(rows)), "tokens": float(lengths.sum()), "pairs": float((lengths**2).sum())}
