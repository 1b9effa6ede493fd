"""What a stage minimises: modules whose forward takes a batch and gives named losses, for `fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.config import LAYER_LOSSES, DistillConfig
from toolkit.distillation.activations import ActivationRecorder
from toolkit.distillation.losses import attention_loss, hidden_loss, prediction_loss, relation_loss
from toolkit.errors import ToolkitError
from toolkit.models.families import hidden_width, model_inputs
from toolkit.models.student import Projections, Shape, check_heads, check_smaller, student_config
from toolkit.tasks import Kind
from toolkit.training.supervised import label_loss

MOST_RELATION_HEADS = 48  # MiniLMv2's best number for BERT-base's width


class IntermediateObjective(nn.Module):
    """Stage a: forward(batch) gives the losses of the layers that have a weight, by name.

    "attention" and "hidden" are summed over the mapped layers; "relations" is the mean of those of Q, K and V in the
    last mapped layer. The teacher is held apart from the parameters, in eval mode and without gradients; what has
    weight 0 is not computed.

    Args:
        student, teacher: Hugging Face encoders; their heads are not run.
        projections: W_e and W_h.
        mapping: g(1)..g(M).
        weights: by name; others than those of the layers are not read.
        relation_heads: r; None takes `max_relation_heads`.
    """

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
        both = ((student, list(self.levels)), (teacher, list(self.levels.values())))
        self._traces = [ActivationRecorder(model, layers, hidden=hidden, scores=scores) for model, layers in both]
        self._last = [
            ActivationRecorder(model, layers[-1:], hidden=False, values=True) for model, layers in both if relations
        ]

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
        if self.weights["relations"]:
            losses["relations"] = self._relations(mask)
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def _relations(self, mask: Tensor) -> Tensor:
        """The mean of Q-Q, K-K and V-V, each [B, L, width] in the last mapped layer."""
        (m, g), (mine, theirs) = list(self.levels.items())[-1], (trace.states for trace in self._last)
        pairs = (
            (mine.queries[m], theirs.queries[g]),
            (mine.keys[m], theirs.keys[g]),
            (mine.values[m], theirs.values[g]),
        )
        return torch.stack([relation_loss(s, t, mask, self.relation_heads) for s, t in pairs]).mean()

    def close(self) -> None:
        """Take the hooks off both models."""
        for trace in (*self._traces, *self._last):
            trace.close()


class PredictionObjective(nn.Module):
    """Stage b: forward(batch) gives {"prediction"}, against the teacher's logits computed beforehand, and {"label"}.

    Args:
        student: a classifier.
        kind: of the task.
        temperature: of the prediction loss.
        prediction, label: weights. The label loss of a batch is its mean over all rows, where one without a label
            ("labelled" is False) counts 0.
    """

    def __init__(
        self, student: Any, kind: Kind, temperature: float, *, prediction: float = 1.0, label: float = 0.0
    ) -> None:
        super().__init__()
        self.student, self.kind, self.temperature = student, kind, temperature
        self.prediction, self.label = prediction, label

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of one batch."""
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


def max_relation_heads(width: int, other: int) -> int:
    """The most relation heads, up to MOST_RELATION_HEADS, that divide both widths."""
    common = math.gcd(width, other)
    return next(heads for heads in range(MOST_RELATION_HEADS, 0, -1) if common % heads == 0)


def check_models(config: DistillConfig, teacher_config: Any, teacher: Any) -> None:
    """Refuse, before anything is computed, a student that cannot learn from this teacher as it is told to.

    Args:
        config: of the command.
        teacher_config: the teacher's Hugging Face configuration.
        teacher: the model.

    Raises:
        ToolkitError: heads that differ where the attention loss needs them equal, relation heads that divide no
            width, or a student too large to be projected.
    """
    shape, weights = Shape.parse(config.student), config.weights
    if weights["attention"]:
        check_heads(teacher, shape)
    if weights["relations"] and config.relation_heads:
        common = math.gcd(shape.hidden, hidden_width(teacher))
        if common % config.relation_heads:
            raise ToolkitError(
                f"--relation-heads {config.relation_heads} does not divide both widths, {shape.hidden} of the student "
                f"and {hidden_width(teacher)} of the teacher",
                expected=f"a divisor of {common}",
            )
    if config.init == "teacher":
        check_smaller(student_config(teacher_config, shape, dropout=0.0), teacher)
