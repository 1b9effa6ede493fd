"""An encoder that is not the teacher and that a student is projected from (`--init ENCODER`).

The student reads the encoder's word pieces and learns its layers; the teacher gives the answers, which the student's
head is fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.distillation.initialization.projection import fit_classifier
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import TorchBatch, depth, hidden_width, model_inputs
from toolkit.models.loading import Source
from toolkit.models.student import Shape, ffn_width


def open_encoder(start: Source, student: Shape, name: str) -> Any:
    """Open an encoder to be projected.

    Args:
        start: the encoder as it was opened.
        student: the shape that is projected from it.
        name: of the encoder, as on the command line.

    Raises:
        ToolkitError: layers that are not known, or an encoder smaller than the student in some respect.
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
    return encoder


@torch.no_grad()
def fit_head(student: Any, batches: Sequence[TorchBatch], logits: Tensor) -> None:
    """Fit the classifier, in place, to answers; the student's other weights stay.

    Args:
        student: in eval mode.
        batches: texts as padded tensors [B, L].
        logits: the answers to them, [rows, C].
    """
    firsts = [
        student(**model_inputs(student, batch), output_hidden_states=True).hidden_states[-1][:, 0] for batch in batches
    ]
    fit_classifier(student, torch.cat(firsts), logits)
