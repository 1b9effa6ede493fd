"""The first weights of a student that learns from answers only: random, a model's, or a projection of an encoder.

The student reads the word pieces of the model that it starts from. The head of a projection is fitted to the answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from toolkit.console import echo
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.initialization.encoder import open_encoder, project_from_encoder
from toolkit.distillation.initialization.projection import fit_classifier
from toolkit.distillation.initialization.student import SAME, draw_student, load_student, sample_rows, tensors
from toolkit.models.families import activation_name, model_inputs, position_count
from toolkit.models.loading import LONGEST, Source
from toolkit.models.student import StudentPlan, student_config
from toolkit.tasks import Task


def start_from_answers(
    plan: StudentPlan, start: Source | None, reader: Source, texts: TokenizedInputs, logits: np.ndarray, task: Task, *,
    dropout: float, seed: int,
) -> Any:  # fmt: skip
    """Make a student, in eval mode, that reads the reader's word pieces.

    Args:
        plan: shape, family, and "random" or the name of the model that it starts from.
        start: that model; None for random weights.
        reader: the model whose word pieces it reads; of `start`, those that are left of its vocabulary.
        texts, logits: n inputs and the answers to them, [n, C].
        task: gives the student its labels, and positions for its length where it is drawn anew.
        dropout: of the student while it learns.
        seed: of random weights and of the sample that a projection reads.

    Raises:
        ToolkitError: a source that is neither this student nor an encoder that it can be projected from.
    """
    torch.manual_seed(seed)
    config = student_config(reader.config, plan.shape, dropout=dropout, task=task, family=plan.family)
    same = start is not None and all(getattr(start.config, name, None) == getattr(config, name) for name in SAME)
    if start is not None and same:
        return load_student(start, plan.init, config, reader, None, head=True)
    config.max_position_embeddings -= max(position_count(config) - max(task.max_length, LONGEST), 0)
    if start is None:
        return draw_student(config, head=True)
    encoder = open_encoder(start, reader, plan.shape, plan.init)
    config.hidden_act = activation_name(encoder.config)
    student, sample = draw_student(config, head=True), sample_rows(texts, seed)
    project_from_encoder(student, encoder, [tensors(texts, rows) for rows in sample])
    fit_head(student, texts, logits, sample)
    echo(f"the student starts as a projection of {plan.init}")
    return student


@torch.no_grad()
def fit_head(student: Any, texts: TokenizedInputs, logits: np.ndarray, sample: list[np.ndarray]) -> None:
    """Fit the classifier, in place, to the answers to a sample of rows.

    Args:
        student: in eval mode.
        texts, logits: n inputs and their answers [n, C].
        sample: numbers of rows, in batches.
    """
    firsts = []
    for rows in sample:
        states = student(**model_inputs(student, tensors(texts, rows)), output_hidden_states=True).hidden_states[-1]
        firsts.append(states[:, 0])
    targets = torch.from_numpy(logits[np.concatenate(sample)]).float()
    fit_classifier(student, torch.cat(firsts), targets)
