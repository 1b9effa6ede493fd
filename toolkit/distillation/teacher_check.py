"""Is this teacher worth learning from? Scored on dev before hours are spent, its label order held against the task."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.config import DistillConfig
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import ToolkitError
from toolkit.metrics import evaluate, label_order, majority_baseline
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits


def check_teacher(
    teacher: Any, task: Task, encoded: EncodedTexts, labels: np.ndarray, config: DistillConfig
) -> dict[str, float]:
    """All dev metrics of a teacher that knows the task.

    Args:
        teacher: a classifier in eval mode.
        task: whose labels the logits should stand for.
        encoded, labels: the dev split.
        config: `allow_weak_teacher` lets a weak one pass; labels in another order never do.

    Raises:
        ToolkitError: another number of outputs, labels in another order, or no better than the majority class.
    """
    names = tuple(teacher.config.id2label[i] for i in range(teacher.config.num_labels))
    _check_names(names, task, config.teacher)
    logits = model_logits(teacher, encoded, "scoring the teacher")
    if task.kind == "classification":
        found = label_order(logits, labels)
        if found.permuted:
            raise ToolkitError(
                f"the labels of {config.teacher} stand in another order than the task's: accuracy is "
                f"{100 * found.accuracy:.1f} % as they are, {100 * found.best_accuracy:.1f} % with the outputs "
                f"read as {', '.join(task.labels[c] for c in found.order)}",
                expected=f"outputs in the order {', '.join(task.labels)}",
                fix="reorder the classifier's rows and id2label, or fine-tune with toolkit finetune",
            )
    metrics, bar = evaluate(task, logits, labels), majority_baseline(task, labels)
    if metrics[task.metric] <= bar and not config.allow_weak_teacher:
        raise ToolkitError(
            f"the teacher {config.teacher} has learnt nothing of {task.name}: dev {task.metric} "
            f"{100 * metrics[task.metric]:.1f}, always the most frequent answer gives {100 * bar:.1f}",
            expected="a teacher fine-tuned on this task",
            fix=f"toolkit finetune --model {config.teacher} --task {task.name}, or --allow-weak-teacher to go on",
        )
    return metrics


def _check_names(names: tuple[str, ...], task: Task, teacher: str) -> None:
    if len(names) != len(task.labels):
        raise ToolkitError(
            f"{teacher} has {len(names)} outputs ({', '.join(names)}), {task.name} has {len(task.labels)}",
            expected=f"outputs {', '.join(task.labels)}",
            fix=f"toolkit finetune --model {teacher} --task {task.name}",
        )
    plain = tuple(name.lower().replace("-", "_") for name in names)
    wanted = tuple(label.lower().replace("-", "_") for label in task.labels)
    if plain != wanted and sorted(plain) == sorted(wanted):
        raise ToolkitError(
            f"the labels of {teacher} stand in another order: {', '.join(names)}",
            expected=f"{', '.join(task.labels)}",
            fix="reorder the classifier's rows and id2label, or fine-tune with toolkit finetune",
        )
