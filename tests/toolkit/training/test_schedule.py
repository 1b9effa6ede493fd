"""The schedule by hand: learning rates, evaluations, and rows that are split over processes and passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.training import SCHEDULE
from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.training.schedule import BatchSchedule, TrainingSchedule


def steps(rows: int | np.ndarray, processes: int = 1, process: int = 0, **changes: Any) -> BatchSchedule:
    lengths = np.arange(1, rows + 1) if isinstance(rows, int) else rows
    return BatchSchedule(lengths, replace(SCHEDULE, **changes), processes, process)


def test_the_schedule_by_hand() -> None:
    plan = steps(20, epochs=1, batch_size=1, warmup=0.2, lr=8.0)
    rates = [plan.learning_rate(done) / 8 for done in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:6] == [1.0, 15 / 16]
    assert rates[-1] == pytest.approx(1 / 16)
    assert steps(1, epochs=1, warmup=0.0).learning_rate(0) == SCHEDULE.lr
    assert steps(20, epochs=2, batch_size=2, evaluations=2).evaluations == {5, 10, 15, 20}


def test_batches_change_with_the_epoch_and_repeat_with_the_seed() -> None:
    def taken(plan: BatchSchedule, done: int = 0) -> list[list[int]]:
        return [part.rows.tolist() for parts in plan.remaining_steps(done) for part in parts]

    plan, again, reseeded = steps(39), steps(39), steps(39, seed=4)
    assert len(plan) == len(taken(plan)) == 2 * 10
    assert taken(plan)[:10] != taken(plan)[10:]
    assert taken(again) == taken(plan) != taken(reseeded)
    assert [taken(plan, done) for done in (0, 3, 10, 13, 20)] == [taken(plan)[done:] for done in (0, 3, 10, 13, 20)]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), processes=st.integers(1, 4),
    accumulation=st.integers(1, 3), batch_size=st.integers(1, 5),
)  # fmt: skip
def test_processes_and_accumulation_share_every_step(
    lengths: list[int], processes: int, accumulation: int, batch_size: int
) -> None:
    """The parts of all processes hold together the rows that one process with large batches takes in a step."""
    sizes = np.array(lengths)
    together = batch_size * processes * accumulation
    whole = [parts[0].rows for parts in steps(sizes, batch_size=together).remaining_steps(0)]
    each = [
        list(steps(sizes, processes, process, batch_size=batch_size, accumulation=accumulation).remaining_steps(0))
        for process in range(processes)
    ]
    assert {len(plan) for plan in each} == {len(whole)}
    for step, rows in enumerate(whole):
        parts = [part for plan in each for part in plan[step]]
        assert len(parts) == processes * accumulation
        assert all(1 <= len(part.rows) <= batch_size for part in parts)
        assert sorted(row for part in parts if part.fraction["rows"] for row in part.rows) == sorted(rows)
        for unit, power in (("rows", 0), ("tokens", 1), ("pairs", 2)):
            counts = [(sizes[part.rows].astype(float) ** power).sum() * (part.fraction["rows"] > 0) for part in parts]
            np.testing.assert_allclose([part.fraction[unit] for part in parts], np.array(counts) / sum(counts))


def test_the_schedule_of_a_command_is_its_options() -> None:
    options = {"batch_size": 8, "warmup": 0.2, "weight_decay": 0.05, "seed": 5, "patience": 3, "precision": "bf16"}
    finetune = FinetuneConfig("m", "sst2", "o", epochs=2, lr=1e-3, accumulation=4, **options)
    expected = TrainingSchedule(
        epochs=2, lr=1e-3, batch_size=8, warmup=0.2, weight_decay=0.05, seed=5, patience=3, accumulation=4,
        precision="bf16",
    )  # fmt: skip
    assert TrainingSchedule.from_config(finetune, finetune.epochs, finetune.lr) == expected
    distill = DistillConfig("t", "sst2", "o", **options).resolved()
    actual = TrainingSchedule.from_config(distill, 7, 1e-4, evaluations=4)
    assert actual == replace(expected, epochs=7, lr=1e-4, evaluations=4, accumulation=1)
    assert TrainingSchedule.from_config(replace(distill, patience=None), 7, 1e-4, evaluations=4).patience is None
    with pytest.raises(AssertionError):  # options of distill that are not resolved leave the rate open
        TrainingSchedule.from_config(distill, 7, None)


def test_a_student_of_one_s_own_task_ends_where_half_of_its_evaluations_bring_nothing() -> None:
    own = DistillConfig("t", "auto", "o", data="d").resolved()
    assert own.patience is None  # so that rows too few to choose by are no error
    patience = {n: TrainingSchedule.from_config(own, n, 5e-5, evaluations=4).patience for n in (1, 3, 10)}
    assert patience == {1: 4, 3: 6, 10: 20}
    for change, expected in (({"patience": 9}, 9), ({"init": "random"}, None), ({"task": "sst2"}, None)):
        assert TrainingSchedule.from_config(replace(own, **change), 3, 5e-5, evaluations=4).patience == expected
