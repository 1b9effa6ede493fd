"""Projection of an encoder that is not the teacher into a student (`--init ENCODER`), while the teacher teaches.

The encoder reads the sample in the teacher's ids and is projected layer by layer, as a teacher is. Then the projections
W_e, W_h and the classifier are fitted to the teacher by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.distillation.initialization.low_rank import Affine, least_squares
from toolkit.distillation.initialization.projection import first_tokens, fit_classifier, project_from_teacher
from toolkit.distillation.initialization.vocabulary import shared_rows
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import TorchBatch, depth, hidden_width, model_inputs, position_count
from toolkit.models.loading import Source
from toolkit.models.student import Shape, ffn_width, layer_map


def open_encoder(start: Source, source: Source, student: Shape, name: str) -> Any:
    """Open an encoder to be projected, with its word embeddings in the order of the teacher's vocabulary.

    A piece of the teacher that it lacks gets the embedding of its unknown piece.

    Args:
        start: the encoder as it was opened.
        source: the teacher.
        student: the shape that is projected from it.
        name: of the encoder, as on the command line.

    Raises:
        ToolkitError: layers that are not known, an encoder smaller than the student in some respect, or another
            vocabulary.
    """
    encoder = start.encoder_model()
    if problem := recording_problem(encoder):
        raise ToolkitError(f"--init {name} cannot be projected: {problem}", fix="--init teacher, or another encoder")
    heads = int(encoder.config.num_attention_heads)
    shape = Shape(depth(encoder), hidden_width(encoder), ffn_width(encoder), heads)
    smaller = shape.layers < student.layers or shape.hidden < student.hidden or shape.ffn < student.ffn
    if smaller or heads != student.heads:
        raise ToolkitError(
            f"a student of {student} cannot start from --init {name}, which is {shape}",
            expected="an encoder with no fewer layers, no smaller width, and equal heads",
            fix=f"--init teacher, or --student {student.fitted_to(encoder)}",
        )
    rows = shared_rows(start, source, name)
    known = np.where(rows >= 0, rows, start.tokenizer.unk_token_id or 0)
    table = encoder.get_input_embeddings().weight.detach()
    encoder.set_input_embeddings(nn.Embedding(len(known), table.shape[1], _weight=table[torch.from_numpy(known)]))
    return encoder


def project_from_encoder(student: Any, encoder: Any, batches: Sequence[TorchBatch]) -> None:
    """Set the student's layers from the encoder's, mapped uniformly; its head stays as it is.

    Args:
        student: changed in place.
        encoder: from `open_encoder`.
        batches: a sample of text as padded tensors [B, L]; cut to the positions and token types of the encoder.
    """
    length, types = position_count(encoder.config), getattr(encoder.config, "type_vocab_size", 0) or 1
    cut = [{name: tensor[:, :length] for name, tensor in batch.items()} for batch in batches]
    readable = [batch | {"token_type_ids": batch["token_type_ids"].clamp_max(types - 1)} for batch in cut]
    layers = int(student.config.num_hidden_layers)
    project_from_teacher(student, encoder, layer_map("uniform", depth(encoder), layers), readable)


@torch.no_grad()
def fit_to_teacher(student: Any, teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]) -> list[Affine]:
    """Fit the student's classifier, where it has one, to the teacher's logits; its other weights stay.

    Args:
        student: in eval mode.
        teacher: in eval mode, with a classification head where the student has one.
        mapping: g(1)..g(M).
        batches: a sample of text as padded tensors [B, L].

    Returns:
        The projections from the student's states to the teacher's, for each level 0..M.
    """
    levels = dict(enumerate((0, *mapping)))
    pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in levels]
    logits = []
    for batch in batches:
        mask = batch["attention_mask"].bool()
        own, taught = (
            model(**model_inputs(model, batch), output_hidden_states=True) for model in (student, teacher)
        )  # fmt: skip
        for m, g in levels.items():
            pairs[m].append((own.hidden_states[m][mask], taught.hidden_states[g][mask].float()))
        logits.append(taught.get("logits", torch.empty(0)).float())
    states = [torch.cat([own for own, _ in level]) for level in pairs]
    if len(torch.cat(logits)):
        fit_classifier(student, states[-1][first_tokens(batches)], torch.cat(logits))
    return [
        least_squares(inputs, torch.cat([taught for _, taught in level]))
        for inputs, level in zip(states, pairs, strict=True)
    ]
