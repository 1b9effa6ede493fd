"""Attention of student and teacher on a few dev texts, for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.activations import ActivationRecorder, Activations
from toolkit.models.families import encoder_layers, layer_paths, model_inputs

MAPPED_TEXTS, MAPPED_TOKENS, LOOKED_THROUGH = 3, 14, 10_000


@torch.no_grad()
def attention_maps(
    student: Any,
    teacher: Any,
    mapping: Sequence[int],
    texts: TokenizedInputs,
    tokens: Callable[[np.ndarray], list[str]],
) -> list[dict[str, Any]]:
    """Where teacher and student look in a few short inputs: attention probabilities, the mean over heads.

    Args:
        student, teacher: encoders, with or without a head.
        mapping: g(1)..g(M).
        texts: the first MAPPED_TEXTS that are short are taken, cut to MAPPED_TOKENS tokens.
        tokens: the pieces behind ids.

    Returns:
        For each input {"tokens": [L], "layers": [{"student_layer", "teacher_layer", "student", "teacher"}]}, both maps
        [L, L], rows being queries.
    """
    chosen = np.argsort(texts.lengths[:LOOKED_THROUGH] > MAPPED_TOKENS, kind="stable")[:MAPPED_TEXTS]
    traces = (
        ActivationRecorder(student, range(1, len(mapping) + 1), hidden=False),
        ActivationRecorder(teacher, mapping, hidden=False),
    )
    found = []
    for row in chosen:
        ids = {name: torch.from_numpy(array[:, :MAPPED_TOKENS]) for name, array in texts.batch([row]).items()}
        for model in (student, teacher):
            batch = {name: array.to(model.device) for name, array in ids.items()}
            model.base_model(**model_inputs(model, batch))
        mine, theirs = (trace.states for trace in traces)
        layers = [
            {
                "student_layer": m, "teacher_layer": g,
                "student": _mean_probs(mine, m), "teacher": _mean_probs(theirs, g),
            }
            for m, g in enumerate(mapping, start=1)
        ]  # fmt: skip
        found.append({"tokens": tokens(ids["input_ids"][0].numpy()), "layers": layers})
    for trace in traces:
        trace.close()
    return found


def _mean_probs(states: Activations, layer: int) -> list[list[float]]:
    probs = states.attention_scores(layer).float().softmax(-1)[0].mean(0)  # L, L
    return [[round(value, 4) for value in row] for row in probs.tolist()]


def describe(student: Any, teacher: Any) -> dict[str, Any]:
    """Shape LAYERS/HIDDEN/FFN/HEADS and parameters of both models."""
    return {
        name: {"shape": _shape(model), "parameters": sum(p.numel() for p in model.parameters())}
        for name, model in (("student", student), ("teacher", teacher))
    }


def _shape(model: Any) -> str:
    layers, config = encoder_layers(model), model.config
    ffn = layers[0].get_parameter(f"{layer_paths(model).ffn_in}.weight").shape[0]
    return f"{len(layers)}/{config.hidden_size}/{ffn}/{config.num_attention_heads}"
