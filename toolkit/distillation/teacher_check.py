"""Checks of the teacher before training, on rows that are not reported."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.console import echo
from toolkit.distillation.data import DistillationData
from toolkit.distillation.labels import places_by_name, reorder_outputs
from toolkit.errors import ToolkitError, some
from toolkit.inference.metrics import evaluate, label_order, majority_baseline
from toolkit.models.loading import output_names
from toolkit.reports.table import percent
from toolkit.tasks import Task


def check_teacher(
    teacher: Any, data: DistillationData, *, name: str, allow_weak: bool, match: bool = False
) -> np.ndarray:
    """Put the teacher's outputs in the task's order, and check that it knows the task, on the rows that judge it.

    Outputs whose names are the task's labels are matched by name.

    Args:
        teacher: a classifier in eval mode; its outputs may be reordered in place.
        data: of the task; `splits.judges` are the rows.
        name: of the teacher, for messages.
        allow_weak: accept a teacher no better than the majority class.
        match: where the rows show another order, put the outputs in it instead of ending with an error.

    Returns:
        The teacher's logits on the rows that judge it, [n, C], in the task's order.

    Raises:
        ToolkitError: another number of outputs, labels in another order, or no better than the majority class.
    """
    task, labels = data.task, data.splits.judges.labels
    _match_names(teacher, task, name)
    logits = data.scorer.judged(teacher, "judging the teacher")
    if task.kind == "classification":
        logits = _match_rows(teacher, task, logits, labels, name=name, match=match)
    metric, baseline = evaluate(task, logits, labels)[task.metric], majority_baseline(task, labels)
    if metric <= baseline and not allow_weak:
        raise ToolkitError(
            f"the teacher {name} has learnt nothing of {task.name}: {task.metric} {100 * metric:.1f} on "
            f"{len(labels):,} rows, always the most frequent answer gives {100 * baseline:.1f}",
            expected="a teacher fine-tuned on this task",
            fix=f"toolkit finetune --model {name} --task {task.option}, or --allow-weak-teacher to go on",
        )
    return logits


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


def _match_rows(
    teacher: Any, task: Task, logits: np.ndarray, labels: np.ndarray, *, name: str, match: bool
) -> np.ndarray:
    """Refuse outputs that the labels show in another order, or put them in it; return logits [n, C] in that order."""
    order = label_order(logits, labels)
    if not order.permuted:
        return logits
    read_as = some([task.labels[c] for c in order.order])
    if not match:
        raise ToolkitError(
            f"the labels of {name} stand in another order than the task's: accuracy is "
            f"{percent(order.accuracy)} as they are, {percent(order.best_accuracy)} with the outputs "
            f"read as {read_as}",
            expected=f"outputs in the order {some(task.labels)}", fix="--match-labels, which reads them so",
        )  # fmt: skip
    places = np.argsort(order.order).tolist()
    reorder_outputs(teacher, places, task.labels)
    echo(f"the outputs of {name} are read as {read_as}: accuracy {percent(order.best_accuracy)}")
    return logits[:, places]
