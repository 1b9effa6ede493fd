"""Fine-tuning that goes on while its metric rises, within a limit: half as many epochs again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from toolkit.console import echo
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.supervised import SupervisedObjective
from toolkit.training.trainer import StageResult, fit

RISE = 0.002  # of the metric in the last evaluation: less is noise
FIRST, FURTHER = "finetune", "further"


def fit_while_rising(
    objective: SupervisedObjective, dataset: EncodedDataset, schedule: TrainingSchedule,
    evaluate: Callable[[], float] | None, checkpoints: Checkpoints, *, further: bool,
) -> dict[str, StageResult]:  # fmt: skip
    """Fit for the epochs of a schedule and, where the metric still rises at their end, for half as many again.

    The further epochs start from the best step, at half the rate; their weights are kept where they are better. A line
    says that the metric was still rising at the end.

    Args:
        objective, dataset, evaluate, checkpoints: as `fit` takes them.
        schedule: of the first epochs.
        further: allow the further ones.
    """

    def fitted(name: str, schedule: TrainingSchedule) -> StageResult:
        return fit(
            objective, dataset, schedule, name=name, model=objective.model, evaluate=evaluate, checkpoints=checkpoints
        )

    first = fitted(FIRST, schedule)
    stages, metrics = {FIRST: first}, first.metrics
    if further and still_rises(metrics):
        longer = replace(schedule, epochs=max(schedule.epochs // 2, 1), lr=schedule.lr / 2, seed=schedule.seed + 1)
        echo(f"the metric still rises, to {100 * metrics[-1]:.2f}: {longer.epochs} epochs more")
        best = {name: value.detach().clone() for name, value in objective.model.state_dict().items()}
        stages[FURTHER] = second = fitted(FURTHER, longer)
        if max(second.metrics) < max(metrics):
            objective.model.load_state_dict(best)
        metrics = [*metrics, *second.metrics]
    if still_rises(metrics):
        echo("the metric was still rising at the end: more --epochs or a higher --lr may gain")
    return stages


def still_rises(metrics: Sequence[float]) -> bool:
    """Tell whether the last of some evaluations is the best by RISE: the training may have ended too early."""
    return len(metrics) > 1 and metrics[-1] >= max(metrics[:-1]) + RISE
