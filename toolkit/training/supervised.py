"""The supervised objective: a classifier learns the task's own labels, without a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from toolkit.models.families import TorchBatch, model_inputs
from toolkit.tasks import Kind
from toolkit.training.schedule import Unit
from toolkit.training.trainer import Objective


class SupervisedObjective(Objective):
    """A classifier with the loss of its labels: forward(batch) gives {"label": loss}."""

    averaged_over: ClassVar[Mapping[str, Unit]] = {"label": "rows"}

    def __init__(self, model: Any, kind: Kind) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, batch: TorchBatch) -> dict[str, Tensor]:
        """Compute the loss of a batch whose targets are labels as `label_loss` takes them."""
        logits = self.model(**model_inputs(self.model, batch)).logits
        return {"label": label_loss(logits, batch["targets"], self.kind)}


def label_loss(logits: Tensor, labels: Tensor, kind: Kind) -> Tensor:
    """Return the loss of fine-tuning: cross-entropy, MSE, or binary cross-entropy for each label.

    Args:
        logits: [B, C].
        labels: class numbers [B]; numbers [B] for regression; 0/1 [B, C] for multi_label.
        kind: of the task.
    """
    if kind == "regression":
        return F.mse_loss(logits[:, 0], labels.to(logits.dtype))
    if kind == "multi_label":
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)
