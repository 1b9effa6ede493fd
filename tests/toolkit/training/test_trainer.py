"""The loop: every row in every epoch, the schedule by hand, the best step kept, a teacher that cannot change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.training import SCHEDULE, encoded
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.errors import ToolkitError
from toolkit.models.student import Projections, Shape, student_config
from toolkit.training.schedule import BatchSchedule, TrainingSchedule, Unit
from toolkit.training.trainer import EncodedDataset, Objective, fit


class Slope(Objective):
    """y = w * length, and a record of the rows it was shown."""

    averaged_over: ClassVar[Mapping[str, Unit]] = {"square": "rows"}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.seen: Counter[int] = Counter()

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.seen.update(batch["targets"].long().tolist())
        return {"square": (self.weight - 1.0).square()}


def test_every_row_is_seen_once_an_epoch_the_last_partial_batch_too() -> None:
    model = Slope()
    fitted = fit(model, EncodedDataset(encoded(10), np.arange(10.0)), SCHEDULE, name="t", model=model, evaluate=None)
    assert model.seen == dict.fromkeys(range(10), 2)  # the reference code dropped the last partial batch
    assert fitted.steps == 2 * 3
    assert 0 < model.weight.item() <= 1.0


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

    one, two, other = steps(39), steps(39), steps(39, seed=4)
    assert len(one) == len(taken(one)) == 2 * 10
    assert taken(one)[:10] != taken(one)[10:]
    assert taken(two) == taken(one) != taken(other)
    assert [taken(one, done) for done in (0, 3, 10, 13, 20)] == [taken(one)[done:] for done in (0, 3, 10, 13, 20)]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), processes=st.integers(1, 4),
    accumulation=st.integers(1, 3), batch_size=st.integers(1, 5),
)  # fmt: skip
def test_processes_and_accumulation_share_every_step(
    lengths: list[int], processes: int, accumulation: int, batch_size: int
) -> None:
    """What one process with large batches takes in a step is what the parts of all processes hold together."""
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


def test_the_best_dev_step_is_kept() -> None:
    model, metrics, weights = Slope(), iter([0.3, 0.9, 0.9, 0.1]), []

    def evaluate() -> float:
        weights.append(model.weight.item())
        return next(metrics)

    schedule = TrainingSchedule(epochs=2, lr=0.1, batch_size=4, warmup=0.1, weight_decay=0.0, seed=3, evaluations=2)
    rows = EncodedDataset(encoded(16), np.arange(16.0))
    fitted = fit(model, rows, schedule, name="t", model=model, evaluate=evaluate)
    assert (fitted.best_metric, fitted.best_step) == (0.9, 4)  # the first of equals
    assert model.weight.item() == weights[1] != weights[-1]
    assert [row["dev"] for row in fitted.history if "dev" in row] == [0.3, 0.9, 0.9, 0.1]


def test_a_loss_that_is_not_finite_stops_with_its_name() -> None:
    class Broken(Slope):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"square": self.weight * float("nan")}

    model = Broken()
    with pytest.raises(ToolkitError, match="the square loss is not finite at step") as caught:
        fit(model, EncodedDataset(encoded(60), np.zeros(60)), SCHEDULE, name="stage", model=model, evaluate=None)
    assert "lower learning rate" in caught.value.fix


def test_the_same_seed_gives_the_same_weights(tiny_bert: Callable[..., Any]) -> None:
    def train() -> dict[str, torch.Tensor]:
        from toolkit.training.supervised import SupervisedObjective

        model = tiny_bert(seed=1, hidden_dropout_prob=0.1)
        rows = EncodedDataset(encoded(24), np.arange(24) % 2)
        fit(SupervisedObjective(model, "classification"), rows, SCHEDULE, name="t", model=model, evaluate=None)
        return dict(model.state_dict())

    one, two = train(), train()
    assert all(torch.equal(one[name], two[name]) for name in one)


class TestIntermediate:
    WEIGHTS = {"attention": 1.0, "hidden": 1.0, "embedding": 1.0}  # noqa: RUF012

    def build(self, tiny_bert: Callable[..., Any], **weights: float) -> tuple[IntermediateObjective, Any, Any]:
        torch.manual_seed(2)
        teacher = tiny_bert(seed=7, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
        config = student_config(teacher.config, Shape(2, 16, 32, 4), dropout=0.0)
        student = type(teacher)(config)
        objective = IntermediateObjective(student, teacher, Projections(3, 16, 24), (2, 3), {**self.WEIGHTS, **weights})
        return objective, student, teacher

    def test_losses_are_those_of_output_hidden_states(self, tiny_bert: Callable[..., Any]) -> None:
        """An independent rendition from the models' own outputs, one sentence at a time, without padding."""
        objective, student, teacher = self.build(tiny_bert)
        rows = encoded(5)
        batch = EncodedDataset(rows).collate(range(5))
        objective.eval()
        with torch.no_grad():
            found = objective(batch)
        hidden, tokens = torch.zeros(3), 0
        with torch.no_grad():
            for ids in rows.ids:
                one = torch.from_numpy(ids)[None]
                mine = student(one, output_hidden_states=True).hidden_states
                theirs = teacher(one, output_hidden_states=True).hidden_states
                for level, g in enumerate((0, 2, 3)):
                    error = objective.projections(mine[level], level) - theirs[g]
                    hidden[level] += error.square().mean(-1).sum()
                tokens += len(ids)
        assert float(found["embedding"]) == pytest.approx(float(hidden[0] / tokens), rel=1e-5)
        assert float(found["hidden"]) == pytest.approx(float(hidden[1:].sum() / tokens), rel=1e-5)
        assert float(found["attention"]) > 0

    def test_the_teacher_neither_learns_nor_drops_out(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, teacher = self.build(tiny_bert)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        batch = EncodedDataset(encoded(8)).collate(range(8))
        objective.train()
        with torch.no_grad():
            first, second = objective(batch), objective(batch)
        assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}
        fit(objective, EncodedDataset(encoded(40)), SCHEDULE, name="t", model=student, evaluate=None)
        assert not teacher.training
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        assert not any(name.startswith("_teacher") or "teacher" in name for name, _ in objective.named_parameters())

    def test_it_is_learnt(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, _ = self.build(tiny_bert)
        batch, rows = EncodedDataset(encoded(64)).collate(range(64)), EncodedDataset(encoded(64))
        schedule = TrainingSchedule(epochs=12, lr=0.01, batch_size=16, warmup=0.1, weight_decay=0.0, seed=0)
        with torch.no_grad():
            before = objective(batch)
        fit(objective, rows, schedule, name="t", model=student, evaluate=None)
        with torch.no_grad():
            after = objective(batch)
        assert all(float(after[name]) < 0.6 * float(before[name]) for name in before)

    def test_a_loss_of_weight_zero_is_not_computed(self, tiny_bert: Callable[..., Any]) -> None:
        objective, _, _ = self.build(tiny_bert, attention=0.0, embedding=2.0)
        batch = EncodedDataset(encoded(4)).collate(range(4))
        whole, _, _ = self.build(tiny_bert)
        with torch.no_grad():
            found, plain = objective(batch), whole(batch)
        assert set(found) == {"hidden", "embedding"}
        assert float(found["embedding"]) == pytest.approx(2 * float(plain["embedding"]))
        assert all(not recorder.activations.queries for recorder in objective._recorders)

    def test_close_takes_the_hooks_off(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, _ = self.build(tiny_bert)
        objective.close()
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_no_checkpoint_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Slope()
    fit(model, EncodedDataset(encoded(8), np.zeros(8)), SCHEDULE, name="t", model=model, evaluate=lambda: 1.0)
    assert not list(tmp_path.iterdir())
