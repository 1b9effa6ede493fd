"""The first weights of a student whose teacher is a file of answers: random, a model's, or a projection of an encoder.

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
from toolkit.models.families import activation_name, model_inputs
from toolkit.models.loading import Source
from toolkit.models.student import StudentPlan, student_config
from toolkit.tasks import Task


def start_from_answers(
    plan: StudentPlan, source: Source, texts: TokenizedInputs, logits: np.ndarray, task: Task, *, dropout: float,
    seed: int,
) -> Any:  # fmt: skip
    """Make a student, in eval mode, that reads the source's word pieces.

    Args:
        plan: shape, family, and "random" or the name of the source.
        source: the model that it starts from, or whose word pieces it reads.
        texts, logits: n inputs and the answers to them, [n, C].
        task: gives the student its labels.
        dropout: of the student while it learns.
        seed: of random weights and of the sample that a projection reads.

    Raises:
        ToolkitError: a source that is neither this student nor an encoder that it can be projected from.
    """
    torch.manual_seed(seed)
    config = student_config(source.config, plan.shape, dropout=dropout, task=task, family=plan.family)
    if plan.init == "random":
        return draw_student(config, head=True)
    if all(getattr(source.config, entry, None) == getattr(config, entry) for entry in SAME):
        return load_student(source, plan.init, config, source, None, head=True)
    encoder = open_encoder(source, source, plan.shape, plan.init)
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
