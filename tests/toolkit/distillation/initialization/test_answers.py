"""A student of a file of answers starts at random, as a model of its shape, or as a projection whose head is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data import rows
from toolkit.data.tokenization import EncodedTexts
from toolkit.data.vocabulary import select_pieces
from toolkit.distillation.initialization.answers import start_from_answers
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.models.trimming import trimmed_source
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
        begin = None if init == "random" else source
        return start_from_answers(plan, begin, source, encoded, LOGITS, TASK, dropout=0.0, seed=1), encoded

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


def test_a_trimmed_vocabulary_keeps_the_rows_of_its_pieces(
    tmp_path: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]
) -> None:
    model = tiny_bert()
    source = Source(str(save_model(model, tmp_path / "model")), tmp_path / "work")
    chosen = select_pieces(source.tokenizer_dir, ["a good film"])
    reader = trimmed_source(source, chosen, tmp_path / "trimmed")
    encoded = reader.encoder(TASK, None).encode(TEXTS[:40])
    for shape in ("3/24/48/4", "2/20/40/4"):
        plan = StudentPlan(Shape.parse(shape), (), source.name)
        student = start_from_answers(plan, source, reader, encoded, LOGITS[:40], TASK, dropout=0.0, seed=1)
        table = student.get_input_embeddings().weight
        assert len(table) == len(chosen.ids) == student.config.vocab_size
        if table.shape[1] == 24:
            assert torch.equal(table, model.get_input_embeddings().weight[torch.from_numpy(chosen.ids)])


def test_a_student_that_is_drawn_has_positions_for_its_texts(
    tmp_path: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]
) -> None:
    path = save_model(tiny_bert(max_position_embeddings=3000), tmp_path / "long")
    source = Source(str(path), tmp_path / "work")
    encoded = source.encoder(TASK, None).encode(TEXTS[:4])
    plan = StudentPlan(Shape(2, 16, 32, 4), (), "random")
    for length, rows_expected in ((64, 512), (1000, 1000), (3000, 3000)):
        task = replace(TASK, max_length=length)
        student = start_from_answers(plan, None, source, encoded, LOGITS[:4], task, dropout=0.0, seed=1)
        assert student.config.max_position_embeddings == rows_expected
