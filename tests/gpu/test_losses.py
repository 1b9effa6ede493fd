"""Losses and gradients of both stages on a device are those of double precision on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import encoded, intermediate
from toolkit.distillation.data import teacher_logits_dataset
from toolkit.distillation.objectives import PredictionObjective
from toolkit.training.dataset import EncodedDataset
from toolkit.training.precision import autocast, bf16_matmul
from toolkit.training.trainer import Objective

# of the largest gradient; bf16 has 8 bits, and a sum of products loses about as much as one of them
FP32_ERROR, BF16_ERROR = 1e-5, 4e-2


def stage(name: str, tiny_bert: Callable[..., Any]) -> tuple[Objective, EncodedDataset]:
    texts = encoded(8)
    if name == "a":
        return intermediate(tiny_bert), EncodedDataset(texts)
    logits = np.random.default_rng(1).normal(size=(8, 2))
    return PredictionObjective(tiny_bert(seed=3), "classification", 1.0), teacher_logits_dataset(
        texts, logits, np.zeros(8, dtype=np.int64)
    )


def losses_and_gradients(
    objective: Objective, rows: EncodedDataset, device: torch.device, precision: str
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses by name, and gradients by the parameter's name, in double precision on the CPU."""
    kind = next(objective.parameters()).dtype
    batch = {
        name: value.to(device, kind if value.is_floating_point() else None)
        for name, value in rows.collate(range(len(rows))).items()
    }
    objective = objective.to(device)
    with bf16_matmul(precision, device), autocast(precision, device):
        losses = objective(batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad.double().cpu() for name, p in objective.named_parameters() if p.grad is not None}
    return {name: float(value.detach()) for name, value in losses.items()}, gradients


@pytest.mark.parametrize(("precision", "bound"), [("fp32", FP32_ERROR), ("bf16", BF16_ERROR)])
@pytest.mark.parametrize("name", ["a", "b"])
def test_losses_and_gradients_are_those_of_double_precision(
    name: str, precision: str, bound: float, device: torch.device, tiny_bert: Callable[..., Any]
) -> None:
    objective, rows = stage(name, tiny_bert)
    exact, _ = stage(name, tiny_bert)
    for model in (exact, *getattr(exact, "_teacher", ())):
        model.double()
    exact_losses, exact_gradients = losses_and_gradients(exact, rows, torch.device("cpu"), "fp32")
    losses, gradients = losses_and_gradients(objective, rows, device, precision)
    assert losses == pytest.approx(exact_losses, rel=bound)
    assert gradients.keys() == exact_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in exact_gradients.values())
    for parameter, gradient in gradients.items():
        error = float((gradient - exact_gradients[parameter]).abs().max())
        assert error <= bound * largest, f"{parameter}: {error / largest:.2g} of the largest gradient"
    wrong = {key: (1 + 3 * bound) * value for key, value in exact_losses.items()}
    assert losses != pytest.approx(wrong, rel=bound)
