"""Checks of the teacher on the dev split, before training."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.console import echo
from toolkit.distillation.data import DistillationData
from toolkit.distillation.labels import places_by_name, reorder_outputs
from toolkit.errors import ToolkitError, some
from toolkit.metrics import evaluate, label_order, majority_baseline
from toolkit.models.loading import output_names
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits


def check_teacher(
    teacher: Any, data: DistillationData, *, name: str, allow_weak: bool, match: bool = False
) -> dict[str, float]:
    """Put the teacher's outputs in the task's order, score it on the dev split and check that it knows the task.

    Outputs whose names are the task's labels are matched by name.

    Args:
        teacher: a classifier in eval mode; its outputs may be reordered in place.
        data: of the task.
        name: of the teacher, for messages.
        allow_weak: accept a teacher no better than the majority class.
        match: where the dev split shows another order, put the outputs in it instead of ending with an error.

    Returns:
        All dev metrics.

    Raises:
        ToolkitError: another number of outputs, labels in another order, or no better than the majority class.
    """
    task, labels = data.task, data.dev.labels
    _match_names(teacher, task, name)
    logits = model_logits(teacher, data.dev_encoded, "scoring the teacher")
    if task.kind == "classification":
        logits = _match_dev(teacher, task, logits, labels, name=name, match=match)
    metrics, baseline = evaluate(task, logits, labels), majority_baseline(task, labels)
    if metrics[task.metric] <= baseline and not allow_weak:
        raise ToolkitError(
            f"the teacher {name} has learnt nothing of {task.name}: dev {task.metric} "
            f"{100 * metrics[task.metric]:.1f}, always the most frequent answer gives {100 * baseline:.1f}",
            expected="a teacher fine-tuned on this task",
            fix=f"toolkit finetune --model {name} --task {task.option}, or --allow-weak-teacher to go on",
        )
    return metrics


def _match_names(teacher: Any, task: Task, name: str) -> None:
    """Match the teacher's outputs with the task's labels by their names; other names keep their places."""
    outputs = output_names(teacher.config)
    if len(outputs) != len(task.labels):
        raise ToolkitError(
            f"{name} has {len(outputs)} outputs ({some(outputs)}), {task.name} has {len(task.labels)}",
            expected=f"outputs {some(task.labels)}",
            fix=f"toolkit finetune --model {name} --task {task.option}",
        )
    places = places_by_name(task.labels, outputs)
    if places is not None and places != sorted(places):
        reorder_outputs(teacher, places, task.labels)
        echo(f"the outputs of {name} are {some(outputs)}: matched with {some(task.labels)} by name")


def _match_dev(
    teacher: Any, task: Task, logits: np.ndarray, labels: np.ndarray, *, name: str, match: bool
) -> np.ndarray:
    """Refuse outputs that dev shows in another order, or put them in it; return the logits [n, C] in that order."""
    order = label_order(logits, labels)
    if not order.permuted:
        return logits
    read_as = some([task.labels[c] for c in order.order])
    if not match:
        raise ToolkitError(
            f"the labels of {name} stand in another order than the task's: accuracy is "
            f"{100 * order.accuracy:.1f} % as they are, {100 * order.best_accuracy:.1f} % with the outputs "
            f"read as {read_as}",
            expected=f"outputs in the order {some(task.labels)}", fix="--match-labels, which reads them so",
        )  # fmt: skip
    places = np.argsort(order.order).tolist()
    reorder_outputs(teacher, places, task.labels)
    echo(f"the outputs of {name} are read as {read_as}: dev accuracy {100 * order.best_accuracy:.1f} %")
    return logits[:, places]
