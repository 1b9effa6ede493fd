"""The order of a teacher's outputs: matched with the task's labels by name, or by what they do on rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from toolkit.errors import ToolkitError
from toolkit.tasks import Task


def places_by_name(labels: Sequence[str], outputs: Sequence[str]) -> list[int] | None:
    """Find the output of each label by its name, else by that in any case; None where the names are not the same."""
    for names, keys in ((outputs, labels), (list(map(_key, outputs)), list(map(_key, labels)))):
        if sorted(names) == sorted(keys) and len(set(names)) == len(names):
            return [names.index(key) for key in keys]
    return None


def in_teacher_order(task: Task, outputs: Sequence[str]) -> Task:
    """Put the labels of a task in the order of the teacher's outputs, where their names are the same ones."""
    places = places_by_name(outputs, task.labels)
    return task if places is None else replace(task, labels=tuple(task.labels[place] for place in places))


def reorder_outputs(model: Any, places: Sequence[int], labels: Sequence[str]) -> None:
    """Move the outputs of a classifier in place: output k becomes what output places[k] was, with the name labels[k].

    Raises:
        ToolkitError: a model whose last layer is not linear with an output for each label.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != len(places):
        raise ToolkitError(
            f"the outputs of {type(model).__name__} cannot be put in another order",
            fix="reorder the classifier's rows and id2label, or fine-tune with toolkit finetune",
        )
    order = torch.as_tensor(places)
    with torch.no_grad():
        for parameter in linear[-1].parameters():
            parameter.copy_(parameter[order.to(parameter.device)])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def _key(name: str) -> str:
    return name.lower().replace("-", "_")
