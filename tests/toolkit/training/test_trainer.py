"""The loop: every row in every epoch, the schedule by hand, the best step kept, a teacher that cannot change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.training import SCHEDULE, encoded
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.errors import ToolkitError
from toolkit.models.student import Projections, Shape, student_config
from toolkit.training.schedule import TrainingSchedule, Unit
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
