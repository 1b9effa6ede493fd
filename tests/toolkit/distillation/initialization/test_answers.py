"""A student of a file of answers starts at random, as a model of its shape, or as a projection whose head is fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data import rows
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.initialization.answers import start_from_answers
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits

TASK = Task("auto", ("negative", "positive"))
TEXTS = [text for text, _ in rows(400, seed=2)]
LABELS = np.array([label for _, label in rows(400, seed=2)])
LOGITS = np.where(LABELS[:, None] == np.arange(2), 2.0, -2.0).astype(np.float32)


@pytest.fixture
def start(tmp_path: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]) -> Any:
    path = save_model(tiny_bert(), tmp_path / "model")
    source = Source(str(path), tmp_path)
    encoded = source.encoder(TASK, None).encode(TEXTS)

    def make(shape: str, init: str) -> tuple[Any, EncodedTexts]:
        plan = StudentPlan(Shape.parse(shape), (), init or str(path))
        return start_from_answers(plan, source, encoded, LOGITS, TASK, dropout=0.0, seed=1), encoded

    return make


def test_a_model_of_the_same_shape_is_taken_with_its_weights(start: Any, tiny_bert: Callable[..., Any]) -> None:
    student, _ = start("3/24/48/4", "")
    for name, weight in tiny_bert().state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], weight)


def test_a_projection_s_head_is_fitted_to_the_answers(start: Any) -> None:
    student, encoded = start("2/20/40/4", "")
    fitted = float(np.mean((model_logits(student, encoded) - LOGITS) ** 2))
    constant = float(LOGITS.var(axis=0).mean())
    assert fitted < 0.9 * constant, "the answers tell the texts apart"
    with torch.no_grad():
        student.classifier.weight += 0.1 * torch.randn(student.classifier.weight.shape)
    assert float(np.mean((model_logits(student, encoded) - LOGITS) ** 2)) > fitted, "the least squares are least"


def test_a_random_student_follows_its_seed(start: Any) -> None:
    first, second = start("2/20/40/4", "random")[0], start("2/20/40/4", "random")[0]
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weight)
    assert first.config.num_hidden_layers == 2
