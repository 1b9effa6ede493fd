"""The loop: every row in every epoch, the best step kept, the same weights from the same seed."""

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
from toolkit.errors import ToolkitError
from toolkit.training.dataset import EncodedDataset
from toolkit.training.schedule import TrainingSchedule, Unit
from toolkit.training.trainer import Objective, fit


class Slope(Objective):
    """A weight that is drawn to 1, and a count of the rows it was shown."""

    averaged_over: ClassVar[Mapping[str, Unit]] = {"square": "rows"}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.shown: Counter[int] = Counter()

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.shown.update(batch["targets"].long().tolist())
        return {"square": (self.weight - 1.0).square()}


def test_every_row_is_seen_once_an_epoch_the_last_partial_batch_too() -> None:
    model = Slope()
    result = fit(model, EncodedDataset(encoded(10), np.arange(10.0)), SCHEDULE, name="t", model=model, evaluate=None)
    assert model.shown == dict.fromkeys(range(10), 2)  # the reference code dropped the last partial batch
    assert result.steps == 2 * 3
    assert 0 < model.weight.item() <= 1.0


def test_the_best_dev_step_is_kept() -> None:
    model, metrics, weights = Slope(), iter([0.3, 0.9, 0.9, 0.1]), []

    def evaluate() -> float:
        weights.append(model.weight.item())
        return next(metrics)

    schedule = TrainingSchedule(epochs=2, lr=0.1, batch_size=4, warmup=0.1, weight_decay=0.0, seed=3, evaluations=2)
    rows = EncodedDataset(encoded(16), np.arange(16.0))
    result = fit(model, rows, schedule, name="t", model=model, evaluate=evaluate)
    assert (result.best_metric, result.best_step) == (0.9, 4)  # the first of equals
    assert model.weight.item() == weights[1] != weights[-1]
    assert [row["selection"] for row in result.history if "selection" in row] == [0.3, 0.9, 0.9, 0.1]


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

    first, second = train(), train()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_checkpoint_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Slope()
    fit(model, EncodedDataset(encoded(8), np.zeros(8)), SCHEDULE, name="t", model=model, evaluate=lambda: 1.0)
    assert not list(tmp_path.iterdir())
