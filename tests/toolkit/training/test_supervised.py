"""The supervised loss by hand, for every kind of task, and its gradient where it belongs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import encoded
from toolkit.tasks import Kind
from toolkit.training.dataset import EncodedDataset
from toolkit.training.supervised import SupervisedObjective, label_loss


def test_label_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert label_loss(logits, torch.tensor([0, 1]), "classification").item() == pytest.approx(expected, abs=1e-6)
    numbers = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert label_loss(torch.tensor([[2.0], [4.0]]), numbers, "regression").item() == pytest.approx(2.5, abs=1e-6)
    both = label_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]), "multi_label")
    assert both.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "labels", "targets"),
    [
        ("classification", 2, np.arange(6) % 2),
        ("regression", 1, np.linspace(0, 5, 6)),
        ("multi_label", 3, np.arange(18).reshape(6, 3) % 2),
    ],
)
def test_the_objective_is_the_mean_over_rows(
    kind: Kind, labels: int, targets: np.ndarray, tiny_bert: Callable[..., Any]
) -> None:
    """A batch's loss is the mean of its rows' own losses, whatever padding they stand beside."""
    names = {i: str(i) for i in range(labels)}
    model = tiny_bert(id2label=names, label2id={name: i for i, name in names.items()})
    objective, dataset = SupervisedObjective(model, kind), EncodedDataset(encoded(6), targets)
    with torch.no_grad():
        whole = objective(dataset.collate(range(6)))
        rows = [objective(dataset.collate([row]))["label"] for row in range(6)]
    assert whole.keys() == objective.averaged_over.keys()
    assert objective.averaged_over["label"] == "rows"
    torch.testing.assert_close(whole["label"], torch.stack(rows).mean())
    assert max(rows) - min(rows) > 0.01  # the mean is not that of equals


def test_every_parameter_is_trained(tiny_bert: Callable[..., Any]) -> None:
    objective = SupervisedObjective(tiny_bert(), "classification")
    batch = EncodedDataset(encoded(6), np.arange(6) % 2).collate(range(6))
    objective(batch)["label"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
