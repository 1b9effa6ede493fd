"""Objectives of the two stages: modules whose forward takes a batch and returns named losses, for `fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from toolkit.config import LAYER_LOSSES
from toolkit.distillation.activations import ActivationRecorder
from toolkit.distillation.losses import attention_loss, hidden_loss, prediction_loss, relation_loss
from toolkit.models.families import TorchBatch, hidden_width, model_inputs
from toolkit.models.student import Projections
from toolkit.tasks import Kind
from toolkit.training.schedule import Unit
from toolkit.training.supervised import label_loss
from toolkit.training.trainer import Objective

MOST_RELATION_HEADS = 48  # MiniLMv2's best number for BERT-base's width


class IntermediateObjective(Objective):
    """Objective of stage a: forward(batch) returns the weighted losses of the mapped layers, by name.

    "attention" and "hidden" are sums over the mapped layers; "relations" is the mean over Q, K and V of the last
    mapped layer. A loss of weight 0 is not computed. The teacher runs in eval mode, without gradients, and its weights
    are no parameters of the objective.

    Args:
        student, teacher: Hugging Face encoders; their heads are not run.
        projections: W_e and W_h.
        mapping: g(1)..g(M).
        weights: of LAYER_LOSSES, by name; other names are not read.
        relation_heads: r; None takes `max_relation_heads`.
    """

    averaged_over: ClassVar[Mapping[str, Unit]] = {
        "attention": "pairs", "hidden": "tokens", "embedding": "tokens", "relations": "tokens",
    }  # fmt: skip

    def __init__(
        self, student: Any, teacher: Any, projections: Projections, mapping: Sequence[int],
        weights: Mapping[str, float], relation_heads: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.student, self.projections = student, projections
        self.weights = {name: weights.get(name, 0.0) for name in LAYER_LOSSES}
        self.levels = dict(zip(range(len(mapping) + 1), (0, *mapping), strict=True))  # g, with g(0) = 0
        self.relation_heads = relation_heads or max_relation_heads(hidden_width(student), hidden_width(teacher))
        self._teacher = (teacher,)  # a tuple hides it from nn.Module: never trained, moved to train mode or saved
        scores, relations = self.weights["attention"] > 0, self.weights["relations"] > 0
        hidden = self.weights["hidden"] > 0 or self.weights["embedding"] > 0
        models = ((student, list(self.levels)), (teacher, list(self.levels.values())))
        self._recorders = [ActivationRecorder(model, layers, hidden=hidden, scores=scores) for model, layers in models]
        self._relation_recorders = [
            ActivationRecorder(model, layers[-1:], hidden=False, values=True) for model, layers in models if relations
        ]

    def forward(self, batch: TorchBatch) -> dict[str, Tensor]:
        """Compute the weighted losses of one batch."""
        mask = batch["attention_mask"]
        teacher_model = self._teacher[0]
        if teacher_model.device != mask.device:  # `to` would visit every parameter in every step
            teacher_model.to(mask.device)
        with torch.no_grad():
            teacher_model.base_model(**model_inputs(teacher_model, batch))
        self.student.base_model(**model_inputs(self.student, batch))
        student, teacher = (recorder.activations for recorder in self._recorders)
        losses: dict[str, Tensor] = {}
        layers = list(self.levels.items())[1:]
        if self.weights["attention"]:
            scores = [(student.attention_scores(m), teacher.attention_scores(g)) for m, g in layers]
            losses["attention"] = torch.stack([attention_loss(s, t, mask) for s, t in scores]).sum()
        if self.weights["hidden"]:
            states = [(self.projections(student.hidden[m], m), teacher.hidden[g]) for m, g in layers]
            losses["hidden"] = torch.stack([hidden_loss(s, t, mask) for s, t in states]).sum()
        if self.weights["embedding"]:
            losses["embedding"] = hidden_loss(self.projections(student.hidden[0], 0), teacher.hidden[0], mask)
        if self.weights["relations"]:
            losses["relations"] = self._relations(mask)
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def _relations(self, mask: Tensor) -> Tensor:
        """Compute the mean loss of the Q-Q, K-K and V-V relations of the last mapped layer, each [B, L, width]."""
        m, g = list(self.levels.items())[-1]
        student, teacher = (recorder.activations for recorder in self._relation_recorders)
        pairs = (
            (student.queries[m], teacher.queries[g]),
            (student.keys[m], teacher.keys[g]),
            (student.values[m], teacher.values[g]),
        )
        return torch.stack([relation_loss(s, t, mask, self.relation_heads) for s, t in pairs]).mean()

    def close(self) -> None:
        """Remove the hooks from both models."""
        for recorder in (*self._recorders, *self._relation_recorders):
            recorder.close()


class PredictionObjective(Objective):
    """Objective of stage b: forward(batch) returns {"prediction"}, against the teacher's stored logits, and {"label"}.

    Args:
        student: a classifier.
        kind: of the task.
        temperature: of the prediction loss.
        prediction, label: weights. The label loss of a batch is the mean over all rows; a row without a label
            ("labelled" is False) counts 0.
    """

    averaged_over: ClassVar[Mapping[str, Unit]] = {"prediction": "rows", "label": "rows"}

    def __init__(
        self, student: Any, kind: Kind, temperature: float, *, prediction: float = 1.0, label: float = 0.0
    ) -> None:
        super().__init__()
        self.student, self.kind, self.temperature = student, kind, temperature
        self.prediction, self.label = prediction, label

    def forward(self, batch: TorchBatch) -> dict[str, Tensor]:
        """Compute the weighted losses of one batch."""
        logits = self.student(**model_inputs(self.student, batch)).logits
        losses: dict[str, Tensor] = {}
        if self.prediction:
            soft = prediction_loss(logits, batch["targets"], self.kind, self.temperature)
            losses["prediction"] = self.prediction * soft
        if self.label:
            known = batch["labelled"]  # B
            hard = label_loss(logits[known], batch["labels"][known], self.kind) if known.any() else logits.sum() * 0
            losses["label"] = self.label * hard * known.float().mean()
        return losses


def max_relation_heads(student_width: int, teacher_width: int) -> int:
    """Return the largest number of relation heads, up to MOST_RELATION_HEADS, that divides both widths."""
    common = math.gcd(student_width, teacher_width)
    return next(heads for heads in range(MOST_RELATION_HEADS, 0, -1) if common % heads == 0)
