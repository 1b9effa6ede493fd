"""The schedule of a stage: the rows of each step, split over processes and forward passes, its rate, its evaluations.

A step's rows are a function of the seed and the step's number, so a stage can resume at any step, and no process asks
another for its rows. Batches are of like length, so that little padding is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.data.batching import shuffled_batches

Unit = Literal["rows", "tokens", "pairs"]  # tokens that are not padding, and pairs of them within a row


@dataclass(frozen=True)
class TrainingSchedule:
    """Length, learning rate and batches of a stage.

    Attributes:
        epochs: passes over the rows.
        lr: learning rate at its peak.
        batch_size: rows of a process in one forward pass.
        warmup: fraction of the steps with a rising rate.
        weight_decay: AdamW's, for matrices.
        seed: of the order of rows and of dropout.
        evaluations: of the rows that choose the step, in each epoch.
        patience: evaluations without a new best after which the stage ends; None never ends it early.
        accumulation: forward passes of a process in each step.
        precision: fp32, bf16, fp16 or auto, see `resolve_precision`. Losses are float32 in each.
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
        """Schedule a stage of a command whose options are resolved.

        Without --patience a student of one's own task ends its stage where half of the evaluations brought no new best.
        One that starts from random weights does not: it may need epochs before its first gain.
        """
        assert lr is not None
        assert config.accumulation is not None
        patience = config.patience
        if patience is None and isinstance(config, DistillConfig) and config.task == "auto" and config.init != "random":
            patience = max(epochs * evaluations // 2, evaluations)
        return cls(
            epochs, lr, config.batch_size, config.warmup, config.weight_decay, config.seed, evaluations,
            patience=patience, accumulation=config.accumulation, precision=config.precision,
        )  # fmt: skip


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one process in one forward pass of a step.

    Attributes:
        rows: row numbers.
        fraction: of the whole step's rows, tokens and pairs: how much a mean over this part weighs in the mean over
            the step. A step with fewer rows than parts repeats a row with fraction 0.
    """

    rows: np.ndarray
    fraction: dict[Unit, float]


class BatchSchedule:
    """Every row once an epoch, in random batches of like length; the last step of an epoch may be smaller.

    Args:
        lengths: tokens of each row, [n].
        schedule: of the stage.
        processes: their number.
        process: the number of this process, from 0.
    """

    def __init__(self, lengths: np.ndarray, schedule: TrainingSchedule, processes: int = 1, process: int = 0) -> None:
        self.lengths, self.schedule = lengths, schedule
        self._parts = processes * schedule.accumulation
        self._own_parts = slice(process * schedule.accumulation, (process + 1) * schedule.accumulation)
        self._step_rows = schedule.batch_size * self._parts
        self._epoch_steps = -(-len(lengths) // self._step_rows)

    def __len__(self) -> int:
        return self.schedule.epochs * self._epoch_steps

    @property
    def evaluations(self) -> set[int]:
        """Return the steps, counted from 1, after which the model is scored: evenly spread, the last one among them."""
        count = self.schedule.epochs * self.schedule.evaluations
        return {max(round(len(self) * i / count), 1) for i in range(1, count + 1)}

    def learning_rate(self, done: int) -> float:
        """Return the rate of the step after `done` steps: linear up over the warm-up, then linear down to 0."""
        total, rising = len(self), max(int(len(self) * self.schedule.warmup), 1)
        return self.schedule.lr * min((done + 1) / rising, (total - done) / max(total - rising, 1), 1.0)

    def remaining_steps(self, done: int) -> Iterator[list[MicroBatch]]:
        """Yield this process's parts of each step that follows the first `done`."""
        for epoch in range(done // self._epoch_steps, self.schedule.epochs):
            batches = shuffled_batches(self.lengths, self._step_rows, self.schedule.seed, epoch)
            for rows in islice(batches, max(done - epoch * self._epoch_steps, 0), None):
                yield self._split(rows)

    def _split(self, rows: np.ndarray) -> list[MicroBatch]:
        whole = self._count(rows)
        parts = np.array_split(rows, self._parts)[self._own_parts]
        return [
            MicroBatch(part, {unit: count / whole[unit] for unit, count in self._count(part).items()})
            if len(part)
            else MicroBatch(rows[:1], dict.fromkeys(whole, 0.0))  # a process without a pass would block the others
            for part in parts
        ]

    def _count(self, rows: np.ndarray) -> dict[Unit, float]:
        lengths = self.lengths[rows].astype(float)
        return {"rows": float(len(rows)), "tokens": float(lengths.sum()), "pairs": float((lengths**2).sum())}
