"""The student's shape, layer map and projections: BERT's architecture or the teacher's, with its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.config import LAYER_LOSSES, STUDENTS
from toolkit.errors import ToolkitError
from toolkit.models.families import (
    activation_name,
    depth,
    encoder_layers,
    hidden_width,
    layer_paths,
    position_count,
    student_type,
)
from toolkit.models.loading import PROBLEM_TYPES
from toolkit.tasks import Task


@dataclass(frozen=True)
class Shape:
    """Layers, hidden width, FFN width, attention heads: TinyBERT4 is 4/312/1200/12."""

    layers: int
    hidden: int
    ffn: int
    heads: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read a preset's name or LAYERS/HIDDEN/FFN/HEADS.

        Raises:
            ToolkitError: a width that the heads do not divide.
        """
        shape = cls(*map(int, STUDENTS.get(text, text).split("/")))
        if min(shape.layers, shape.hidden, shape.ffn, shape.heads) < 1 or shape.hidden % shape.heads:
            raise ToolkitError(
                f"a student of {text} cannot be built: {shape.hidden} hidden over {shape.heads} heads",
                expected="whole numbers above 0, and a hidden width that the heads divide",
            )
        return shape

    @classmethod
    def from_config(cls, config: Any) -> Shape:
        """Read the shape of a BERT."""
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads)

    def fitted_to(self, teacher: Any) -> Shape:
        """Return the nearest shape that any loss can compare with this teacher, and that can be projected from it."""
        config = teacher.config
        heads, width, ffn = config.num_attention_heads, config.hidden_size, ffn_width(teacher)
        hidden = min(-(-self.hidden // heads) * heads, width)
        return Shape(min(self.layers, depth(teacher)), hidden, min(self.ffn, ffn), heads)

    def __str__(self) -> str:
        return f"{self.layers}/{self.hidden}/{self.ffn}/{self.heads}"


def ffn_width(model: Any) -> int:
    """Return the width of the feed-forward layers of a supported family."""
    return int(encoder_layers(model)[0].get_parameter(f"{layer_paths(model).ffn_in}.weight").shape[0])


def layer_map(kind: str, teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Return g(m) for m = 1..M: the teacher layer that student layer m learns from (arXiv 1909.10351, section 3.1).

    Args:
        kind: "uniform" is N*m/M, rounded half up (3m for 12 to 4); "top" the last M; "bottom" the first M; or an
            explicit list such as "3,6,9,12".
        teacher_layers: N.
        student_layers: M.

    Raises:
        ToolkitError: more student than teacher layers, or a list that is not M rising numbers up to N.
    """
    n, m = teacher_layers, student_layers
    if m > n:
        raise ToolkitError(
            f"a student of {m} layers cannot learn from a teacher of {n}", fix="a --student of fewer layers"
        )
    if kind == "uniform":
        return tuple(int(n * i / m + 0.5) for i in range(1, m + 1))
    if kind == "top":
        return tuple(range(n - m + 1, n + 1))
    if kind == "bottom":
        return tuple(range(1, m + 1))
    chosen = tuple(int(part) for part in kind.split(","))
    if len(chosen) != m or list(chosen) != sorted(set(chosen)) or chosen[0] < 1 or chosen[-1] > n:
        raise ToolkitError(
            f"--layer-map {kind} does not fit {m} student and {n} teacher layers",
            expected=f"{m} rising layer numbers from 1 to {n}, or uniform, top, bottom",
        )
    return chosen


def student_config(
    teacher: Any, shape: Shape, *, dropout: float, task: Task | None = None, family: str = "auto", start: Any = None
) -> Any:
    """Return a configuration of this shape over the teacher's vocabulary and positions.

    Args:
        teacher: the teacher's Hugging Face configuration.
        shape: of the student.
        dropout: of the student's hidden states and attention probabilities.
        task: gives the labels; None for general distillation.
        family, start: as in `student_type`.

    Raises:
        ToolkitError: no student is built in the teacher's family.
    """
    from transformers import BertConfig

    labels, problem_type = {}, None
    if task is not None:
        labels = {
            "id2label": dict(enumerate(task.labels)),
            "label2id": {label: i for i, label in enumerate(task.labels)},
        }
        problem_type = PROBLEM_TYPES[task.kind]
    sizes = {
        "num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": shape.ffn,
        "num_attention_heads": shape.heads, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    if student_type(family, teacher, start) != "bert":
        return type(teacher).from_dict({**teacher.to_dict(), **sizes, "problem_type": problem_type, **labels})
    return BertConfig(
        vocab_size=teacher.vocab_size,
        hidden_act=activation_name(teacher),
        max_position_embeddings=position_count(teacher),
        type_vocab_size=getattr(teacher, "type_vocab_size", 0) or 2,  # DeBERTa and DistilBERT tell no segments apart
        layer_norm_eps=getattr(teacher, "layer_norm_eps", 1e-12),
        pad_token_id=teacher.pad_token_id or 0,
        problem_type=problem_type,
        **sizes,
        **labels,
    )


def check_heads(teacher: Any, shape: Shape) -> None:
    """Check that teacher and student have equally many heads, which the attention loss compares in pairs.

    Raises:
        ToolkitError: the numbers differ.
    """
    if teacher.config.num_attention_heads != shape.heads:
        heads = teacher.config.num_attention_heads
        raise ToolkitError(
            f"the teacher has {heads} attention heads, the student {shape.heads}: "
            "the attention loss compares them one to one",
            expected=f"a student of {heads} heads, with a hidden width that {heads} divides",
            fix=f"--student {shape.fitted_to(teacher)}, "
            "or --objective relations --init random, which needs no equal heads",
        )


def check_smaller(shape: Shape, teacher: Any) -> None:
    """Check that a student can be projected from its teacher: no larger widths, and as many heads.

    Raises:
        ToolkitError: a larger width, or another number of heads.
    """
    config, ffn = teacher.config, ffn_width(teacher)
    narrower = shape.hidden <= config.hidden_size and shape.ffn <= ffn
    if not narrower or shape.heads != config.num_attention_heads:
        raise ToolkitError(
            f"a student of {shape} cannot be projected from a teacher of "
            f"{depth(teacher)}/{config.hidden_size}/{ffn}/{config.num_attention_heads}",
            expected="no larger width than the teacher's, and equal heads",
            fix=f"--init random, or --student {shape.fitted_to(teacher)}",
        )


@dataclass(frozen=True)
class StudentPlan:
    """Shape of a student and its place beside its teacher.

    Attributes:
        shape: layers and widths.
        mapping: g(1)..g(M), the teacher layer that each student layer learns from.
        init: "teacher", "random", or the model of the first weights.
        family: "auto", "bert" or "teacher", as in `student_type`.
    """

    shape: Shape
    mapping: tuple[int, ...]
    init: str
    family: str = "auto"


def plan_student(
    teacher: Any, *, shape: str, layers: str, init: str, weights: Mapping[str, float], relation_heads: int | None,
    family: str = "auto",
) -> StudentPlan:  # fmt: skip
    """Plan a student and check, before anything is computed, that it can learn from its teacher.

    Args:
        teacher: the model.
        shape: a preset or LAYERS/HIDDEN/FFN/HEADS.
        layers: the layer map as `layer_map` takes it.
        init: where the first weights come from.
        weights: of the losses, by name.
        relation_heads: of the relation loss; None takes a number that fits.
        family: as in `student_type`.

    Raises:
        ToolkitError: a family whose layers are needed and not known, heads that differ where the attention loss needs
            them equal, relation heads that do not divide both widths, a student too large to be projected, or a layer
            map that does not fit.
    """
    planned = Shape.parse(shape)
    student_type(family, teacher.config)
    if needs_layers(weights, init):
        layer_paths(teacher)
        if planned.layers > depth(teacher):
            raise ToolkitError(
                f"a student of {planned.layers} layers cannot learn from a teacher of {depth(teacher)}",
                fix=f"--student {planned.fitted_to(teacher)}",
            )
    if weights["attention"]:
        check_heads(teacher, planned)
    if weights["relations"] and relation_heads:
        common = math.gcd(planned.hidden, hidden_width(teacher))
        if common % relation_heads:
            raise ToolkitError(
                f"--relation-heads {relation_heads} does not divide both widths, {planned.hidden} of the student "
                f"and {hidden_width(teacher)} of the teacher",
                expected=f"a divisor of {common}",
            )
    if init == "teacher":
        check_smaller(planned, teacher)
    return StudentPlan(planned, layer_map(layers, depth(teacher), planned.layers), init, family)


def needs_layers(weights: Mapping[str, float], init: str) -> bool:
    """Return whether a student learns from its teacher's layers or starts from them, not from its answers alone."""
    return init == "teacher" or any(weights[name] for name in LAYER_LOSSES)


class Projections(nn.Module):
    """The projections W_h and W_e of Eq. 8 and 9, from student width to teacher width; only training uses them.

    Each of the M + 1 levels (embeddings and layers) has a linear map of its own, or all share a single map.

    Args:
        levels: M + 1.
        width: d, of the student.
        teacher_width: D.
        shared: a single map for all levels.
    """

    def __init__(self, levels: int, width: int, teacher_width: int, *, shared: bool = False) -> None:
        super().__init__()
        self.levels = levels
        self.maps = nn.ModuleList(nn.Linear(width, teacher_width) for _ in range(1 if shared else levels))

    def forward(self, states: Tensor, level: int) -> Tensor:
        """Map states [B, L, d] of a level to [B, L, D]; level 0 is the embeddings."""
        return self.maps[level if len(self.maps) > 1 else 0](states)  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_from(self, solved: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set the maps to (weight [D, d], bias [D]) of each level; a shared map gets the mean."""
        if len(self.maps) == 1:
            pairs = [(torch.stack([w for w, _ in solved]).mean(0), torch.stack([b for _, b in solved]).mean(0))]
        else:
            pairs = list(solved)
        for linear, (weight, bias) in zip(self.maps, pairs, strict=True):
            linear.get_parameter("weight").copy_(weight)
            linear.get_parameter("bias").copy_(bias)
