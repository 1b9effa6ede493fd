"""Training goes on while the metric rises, once, and keeps the better weights; it says that it ended while rising."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from toolkit.training import rounds
from toolkit.training.rounds import fit_while_rising, still_rises
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageResult

SCHEDULE = TrainingSchedule(epochs=4, lr=2e-4, batch_size=8, warmup=0.1, weight_decay=0.0, seed=3)


@pytest.mark.parametrize(
    ("metrics", "rises"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.6], True),
        ([0.5, 0.501], False),
        ([0.6, 0.5], False),
        ([0.7, 0.5, 0.6], False),
    ],
)
def test_a_metric_rises_where_the_last_is_the_best_by_more_than_noise(metrics: list[float], rises: bool) -> None:
    assert still_rises(metrics) is rises


class Objective:
    """A model of one number, which each stage sets to its best metric."""

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1, bias=False)


def fitted(
    monkeypatch: pytest.MonkeyPatch, curves: list[list[float]], *, further: bool = True
) -> tuple[dict[str, StageResult], float, list[TrainingSchedule]]:
    """The stages, the number that the model ends with, and the schedules that were fitted."""
    schedules: list[TrainingSchedule] = []
    left: Iterator[list[float]] = iter(curves)

    def fit(objective: Objective, dataset: Any, schedule: TrainingSchedule, **_: Any) -> StageResult:
        schedules.append(schedule)
        metrics = next(left)
        nn.init.constant_(objective.model.weight, max(metrics))
        return StageResult(history=[{"step": i, "selection": metric} for i, metric in enumerate(metrics, start=1)])

    monkeypatch.setattr(rounds, "fit", fit)
    objective: Any = Objective()
    stages = fit_while_rising(objective, Path(), SCHEDULE, lambda: 0.0, Path(), further=further)  # type: ignore[arg-type]
    return stages, objective.model.weight.item(), schedules


def test_half_as_many_epochs_again_at_half_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages, weight, schedules = fitted(monkeypatch, [[0.5, 0.6], [0.7, 0.69]])
    assert (list(stages), weight) == (["finetune", "further"], pytest.approx(0.7))
    assert [(schedule.epochs, schedule.lr) for schedule in schedules] == [(4, 2e-4), (2, 1e-4)]
    assert capsys.readouterr().out == "the metric still rises, to 60.00: 2 epochs more\n"


def test_further_epochs_that_are_worse_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(monkeypatch, [[0.5, 0.6], [0.55, 0.58]])[1] == pytest.approx(0.6)


def test_a_metric_that_rises_to_the_end_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted(monkeypatch, [[0.5, 0.6], [0.65, 0.7]])
    assert "was still rising at the end: more --epochs" in capsys.readouterr().out
    assert list(fitted(monkeypatch, [[0.5, 0.6]], further=False)[0]) == ["finetune"]
    assert capsys.readouterr().out.startswith("the metric was still rising at the end")
    assert list(fitted(monkeypatch, [[0.6, 0.6]])[0]) == ["finetune"]
    assert capsys.readouterr().out == ""
