"""The losses of both stages: an independent rendition, a teacher that cannot change, weights, labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.models import own_hooks
from tests.support.training import SCHEDULE, encoded
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.data import teacher_logits_dataset
from toolkit.distillation.objectives import IntermediateObjective, PredictionObjective, max_relation_heads
from toolkit.models.student import Projections, Shape, student_config
from toolkit.training.dataset import EncodedDataset
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import fit


def test_an_unlabelled_row_counts_nothing_in_the_label_loss(tiny_bert: Any) -> None:
    student = tiny_bert()
    encoded = EncodedTexts(
        [np.arange(5, 9 + i) for i in range(4)], [np.zeros(4 + i, int) for i in range(4)], np.zeros(4), 0
    )
    rows_ = teacher_logits_dataset(encoded, np.zeros((4, 2), np.float32), np.array([1, 0]))
    objective = PredictionObjective(student, "classification", 1.0, prediction=0.0, label=3.0)
    with torch.no_grad():
        some, none, first = (float(objective(rows_.collate(rows))["label"]) for rows in ([0, 1, 2, 3], [2, 3], [0]))
        second = float(objective(rows_.collate([1]))["label"])
    assert none == 0.0
    assert some == pytest.approx((first + second) / 4, rel=1e-5)


class TestIntermediate:
    WEIGHTS = {"attention": 1.0, "hidden": 1.0, "embedding": 1.0}  # noqa: RUF012

    def build(self, tiny_bert: Callable[..., Any], **weights: float) -> tuple[IntermediateObjective, Any, Any]:
        torch.manual_seed(2)
        teacher = tiny_bert(seed=7, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
        config = student_config(teacher.config, Shape(2, 16, 32, 4), dropout=0.0)
        student = type(teacher)(config)
        objective = IntermediateObjective(student, teacher, Projections(3, 16, 24), (2, 3), {**self.WEIGHTS, **weights})
        return objective, student, teacher

    def test_losses_are_those_of_output_hidden_states(self, tiny_bert: Callable[..., Any]) -> None:
        """An independent rendition from the models' own outputs, one sentence at a time, without padding."""
        objective, student, teacher = self.build(tiny_bert)
        rows = encoded(5)
        batch = EncodedDataset(rows).collate(range(5))
        objective.eval()
        with torch.no_grad():
            losses = objective(batch)
        hidden, tokens = torch.zeros(3), 0
        with torch.no_grad():
            for ids in rows.ids:
                sentence = torch.from_numpy(ids)[None]
                student_states = student(sentence, output_hidden_states=True).hidden_states
                teacher_states = teacher(sentence, output_hidden_states=True).hidden_states
                for level, g in enumerate((0, 2, 3)):
                    error = objective.projections(student_states[level], level) - teacher_states[g]
                    hidden[level] += error.square().mean(-1).sum()
                tokens += len(ids)
        assert float(losses["embedding"]) == pytest.approx(float(hidden[0] / tokens), rel=1e-5)
        assert float(losses["hidden"]) == pytest.approx(float(hidden[1:].sum() / tokens), rel=1e-5)
        assert float(losses["attention"]) > 0

    def test_the_teacher_neither_learns_nor_drops_out(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, teacher = self.build(tiny_bert)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        batch = EncodedDataset(encoded(8)).collate(range(8))
        objective.train()
        with torch.no_grad():
            first, second = objective(batch), objective(batch)
        assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}
        fit(objective, EncodedDataset(encoded(40)), SCHEDULE, name="t", model=student, evaluate=None)
        assert not teacher.training
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        assert not any(name.startswith("_teacher") or "teacher" in name for name, _ in objective.named_parameters())

    def test_it_is_learnt(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, _ = self.build(tiny_bert)
        batch, rows = EncodedDataset(encoded(64)).collate(range(64)), EncodedDataset(encoded(64))
        schedule = TrainingSchedule(epochs=12, lr=0.01, batch_size=16, warmup=0.1, weight_decay=0.0, seed=0)
        with torch.no_grad():
            before = objective(batch)
        fit(objective, rows, schedule, name="t", model=student, evaluate=None)
        with torch.no_grad():
            after = objective(batch)
        assert all(float(after[name]) < 0.6 * float(before[name]) for name in before)

    def test_a_loss_of_weight_zero_is_not_computed(self, tiny_bert: Callable[..., Any]) -> None:
        objective, _, _ = self.build(tiny_bert, attention=0.0, embedding=2.0)
        batch = EncodedDataset(encoded(4)).collate(range(4))
        whole, _, _ = self.build(tiny_bert)
        with torch.no_grad():
            losses, plain = objective(batch), whole(batch)
        assert set(losses) == {"hidden", "embedding"}
        assert float(losses["embedding"]) == pytest.approx(2 * float(plain["embedding"]))
        assert all(not recorder.activations.queries for recorder in objective._recorders)

    def test_close_takes_the_hooks_off(self, tiny_bert: Callable[..., Any]) -> None:
        objective, student, _ = self.build(tiny_bert)
        objective.close()
        assert own_hooks(student) == []


@pytest.mark.parametrize(
    ("student", "teacher", "heads"), [(312, 768, 24), (384, 768, 48), (16, 24, 8), (7, 24, 1), (96, 96, 48)]
)
def test_the_most_relation_heads_divide_both_widths(student: int, teacher: int, heads: int) -> None:
    assert max_relation_heads(student, teacher) == heads
