"""Attention of student and teacher on a few dev texts, and the sizes of both models, for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import torch

from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.activations import ActivationRecorder, Activations
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import depth, hidden_width, model_inputs
from toolkit.models.student import ffn_width

MAPPED_TEXTS, MAPPED_TOKENS = 3, 14
SEARCHED_TEXTS = 10_000  # the first rows, among which short ones are looked for


class LayerMaps(TypedDict):
    """Attention probabilities [L, L] of a student layer and of the teacher layer that it learns from."""

    student_layer: int
    teacher_layer: int
    student: list[list[float]]
    teacher: list[list[float]]


class AttentionMap(TypedDict):
    """Tokens [L] of an input and the attention maps of each mapped layer."""

    tokens: list[str]
    layers: list[LayerMaps]


class ModelSize(TypedDict):
    """LAYERS/HIDDEN/FFN/HEADS of a model and the number of its parameters."""

    shape: str
    parameters: int


@torch.no_grad()
def attention_maps(
    student: Any, teacher: Any, mapping: Sequence[int], texts: TokenizedInputs,
    tokens: Callable[[np.ndarray], list[str]],
) -> list[AttentionMap]:  # fmt: skip
    """Compute attention probabilities of both models on a few short inputs, the mean over heads.

    Args:
        student, teacher: encoders, with or without a head.
        mapping: g(1)..g(M).
        texts: the first MAPPED_TEXTS that are short are taken, cut to MAPPED_TOKENS tokens.
        tokens: the pieces behind ids.

    Returns:
        A map for each input; rows of its [L, L] are queries. Of a teacher whose attention is not recorded: no map.
    """
    if recording_problem(teacher):
        return []
    chosen = np.argsort(texts.lengths[:SEARCHED_TEXTS] > MAPPED_TOKENS, kind="stable")[:MAPPED_TEXTS]
    student_recorder = ActivationRecorder(student, range(1, len(mapping) + 1), hidden=False)
    teacher_recorder = ActivationRecorder(teacher, mapping, hidden=False)
    maps: list[AttentionMap] = []
    for row in chosen:
        inputs = {name: torch.from_numpy(array[:, :MAPPED_TOKENS]) for name, array in texts.batch([row]).items()}
        for model in (student, teacher):
            batch = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            model.base_model(**model_inputs(model, batch))
        layers: list[LayerMaps] = [
            {
                "student_layer": m, "teacher_layer": g,
                "student": _mean_probabilities(student_recorder.activations, m),
                "teacher": _mean_probabilities(teacher_recorder.activations, g),
            }
            for m, g in enumerate(mapping, start=1)
        ]  # fmt: skip
        maps.append({"tokens": tokens(inputs["input_ids"][0].numpy()), "layers": layers})
    student_recorder.close()
    teacher_recorder.close()
    return maps


def _mean_probabilities(activations: Activations, layer: int) -> list[list[float]]:
    probabilities = activations.attention_scores(layer).float().softmax(-1)[0].mean(0)  # L, L
    return [[round(value, 4) for value in row] for row in probabilities.tolist()]


def describe(model: Any) -> ModelSize:
    """Describe the shape of a model and count its parameters."""
    try:
        ffn: int | str = ffn_width(model)
    except ToolkitError:  # a teacher of another family, which gave its answers alone
        ffn = getattr(model.config, "intermediate_size", "?")
    return {
        "shape": f"{depth(model)}/{hidden_width(model)}/{ffn}/{getattr(model.config, 'num_attention_heads', '?')}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
