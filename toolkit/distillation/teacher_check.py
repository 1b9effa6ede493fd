"""Checks of the teacher on the dev split, before training."""

from __future__ import annotations

from typing import Any

from toolkit.distillation.data import DistillationData
from toolkit.errors import ToolkitError
from toolkit.metrics import evaluate, label_order, majority_baseline
from toolkit.models.loading import output_names
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits

REORDER = "reorder the classifier's rows and id2label, or fine-tune with toolkit finetune"


def check_teacher(teacher: Any, data: DistillationData, *, name: str, allow_weak: bool) -> dict[str, float]:
    """Score the teacher on the dev split and check that it knows the task.

    Args:
        teacher: a classifier in eval mode.
        data: of the task.
        name: of the teacher, for messages.
        allow_weak: accept a teacher no better than the majority class. Labels in another order are never accepted.

    Returns:
        All dev metrics.

    Raises:
        ToolkitError: another number of outputs, labels in another order, or no better than the majority class.
    """
    task, labels = data.task, data.dev.labels
    _check_names(output_names(teacher.config), task, name)
    logits = model_logits(teacher, data.dev_encoded, "scoring the teacher")
    if task.kind == "classification":
        order = label_order(logits, labels)
        if order.permuted:
            raise ToolkitError(
                f"the labels of {name} stand in another order than the task's: accuracy is "
                f"{100 * order.accuracy:.1f} % as they are, {100 * order.best_accuracy:.1f} % with the outputs "
                f"read as {', '.join(task.labels[c] for c in order.order)}",
                expected=f"outputs in the order {', '.join(task.labels)}", fix=REORDER,
            )  # fmt: skip
    metrics, baseline = evaluate(task, logits, labels), majority_baseline(task, labels)
    if metrics[task.metric] <= baseline and not allow_weak:
        raise ToolkitError(
            f"the teacher {name} has learnt nothing of {task.name}: dev {task.metric} "
            f"{100 * metrics[task.metric]:.1f}, always the most frequent answer gives {100 * baseline:.1f}",
            expected="a teacher fine-tuned on this task",
            fix=f"toolkit finetune --model {name} --task {task.name}, or --allow-weak-teacher to go on",
        )
    return metrics


def _check_names(outputs: tuple[str, ...], task: Task, teacher: str) -> None:
    """Compare the names of the teacher's outputs with the task's labels, whatever their case."""
    if len(outputs) != len(task.labels):
        raise ToolkitError(
            f"{teacher} has {len(outputs)} outputs ({', '.join(outputs)}), {task.name} has {len(task.labels)}",
            expected=f"outputs {', '.join(task.labels)}",
            fix=f"toolkit finetune --model {teacher} --task {task.name}",
        )
    names, labels = ([name.lower().replace("-", "_") for name in group] for group in (outputs, task.labels))
    if names != labels and sorted(names) == sorted(labels):
        raise ToolkitError(
            f"the labels of {teacher} stand in another order: {', '.join(outputs)}",
            expected=f"{', '.join(task.labels)}", fix=REORDER,
        )  # fmt: skip
