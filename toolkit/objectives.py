"""What a stage minimises: modules whose forward takes a batch and gives named losses, for `toolkit.training.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.losses import attention_loss, hidden_loss, prediction_loss
from toolkit.student import Projections
from toolkit.tasks import Kind
from toolkit.trace import Trace, model_inputs


class Intermediate(nn.Module):
    """Stage a: forward(batch) gives {"attention", "hidden", "embedding"}, each summed over its layers.

    The teacher is held apart from the parameters, in eval mode and without gradients; what has weight 0 is not
    computed.

    Args:
        student, teacher: Hugging Face encoders; their heads are not run.
        projections: W_e and W_h.
        mapping: g(1)..g(M).
        weights: of the three losses.
    """

    def __init__(
        self, student: Any, teacher: Any, projections: Projections, mapping: Sequence[int], weights: dict[str, float]
    ) -> None:
        super().__init__()
        self.student, self.projections, self.weights = student, projections, weights
        self.levels = dict(zip(range(len(mapping) + 1), (0, *mapping), strict=True))  # g, with g(0) = 0
        scores, hidden = weights["attention"] > 0, weights["hidden"] > 0 or weights["embedding"] > 0
        self._teacher = (teacher,)  # a tuple hides it from nn.Module: never trained, moved to train mode or saved
        self._traces = (
            Trace(student, list(self.levels), hidden=hidden, scores=scores),
            Trace(teacher, list(self.levels.values()), hidden=hidden, scores=scores),
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted losses of one batch."""
        mask = batch["attention_mask"]
        teacher = self._teacher[0].to(mask.device)
        with torch.no_grad():
            teacher.base_model(**model_inputs(teacher, batch))
        self.student.base_model(**model_inputs(self.student, batch))
        mine, theirs = (trace.states for trace in self._traces)
        losses: dict[str, Tensor] = {}
        layers = list(self.levels.items())[1:]
        if self.weights["attention"]:
            pairs = [(mine.attention_scores(m), theirs.attention_scores(g)) for m, g in layers]
            losses["attention"] = torch.stack([attention_loss(s, t, mask) for s, t in pairs]).sum()
        if self.weights["hidden"]:
            states = [(self.projections(mine.hidden[m], m), theirs.hidden[g]) for m, g in layers]
            losses["hidden"] = torch.stack([hidden_loss(s, t, mask) for s, t in states]).sum()
        if self.weights["embedding"]:
            losses["embedding"] = hidden_loss(self.projections(mine.hidden[0], 0), theirs.hidden[0], mask)
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def close(self) -> None:
        """Take the hooks off both models."""
        for trace in self._traces:
            trace.close()


class Prediction(nn.Module):
    """Stage b: forward(batch) gives {"prediction"}; targets are the teacher's logits, computed once beforehand."""

    def __init__(self, student: Any, kind: Kind, temperature: float) -> None:
        super().__init__()
        self.student, self.kind, self.temperature = student, kind, temperature

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of one batch."""
        logits = self.student(**model_inputs(self.student, batch)).logits
        return {"prediction": prediction_loss(logits, batch["targets"], self.kind, self.temperature)}
