"""A schedule, rows and an objective to train with for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.models.student import Projections, Shape, student_config
from toolkit.training.schedule import TrainingSchedule

SCHEDULE = TrainingSchedule(epochs=2, lr=0.1, batch_size=4, warmup=0.1, weight_decay=0.01, seed=3)


def encoded(rows: int, seed: int = 0) -> EncodedTexts:
    """Inputs of three to eleven random tokens."""
    random = np.random.default_rng(seed)
    ids = [random.integers(5, 60, random.integers(3, 12)).astype(np.int64) for _ in range(rows)]
    return EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(rows, dtype=bool), pad_id=0)


def intermediate(
    tiny_bert: Callable[..., Any], kind: type[IntermediateObjective] = IntermediateObjective
) -> IntermediateObjective:
    """Stage a with a tiny teacher of three layers and a student of two, the same weights each time."""
    teacher = tiny_bert(seed=7)
    torch.manual_seed(2)
    student = type(teacher)(student_config(teacher.config, Shape(2, 16, 32, 4), dropout=0.0))
    weights = {"attention": 1.0, "hidden": 1.0, "embedding": 1.0}
    return kind(student, teacher, Projections(3, 16, 24), (2, 3), weights)
