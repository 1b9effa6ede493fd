"""Losses against hand-worked numbers and independent naive loops; padding and batch order must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.distillation.losses import attention_loss, hidden_loss, prediction_loss, relation_loss
from toolkit.tasks import Kind


def naive_attention(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> float:
    total, count = 0.0, 0
    for b in range(mask.shape[0]):
        for q in range(mask.shape[1]):
            for k in range(mask.shape[1]):
                if mask[b, q] and mask[b, k]:
                    for a in range(student.shape[1]):
                        total += (float(student[b, a, q, k]) - float(teacher[b, a, q, k])) ** 2
                        count += 1
    return total / count


def naive_hidden(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> float:
    squares = [
        (float(s) - float(t)) ** 2
        for b in range(mask.shape[0]) for i in range(mask.shape[1]) if mask[b, i]
        for s, t in zip(student[b, i], teacher[b, i], strict=True)
    ]  # fmt: skip
    return sum(squares) / len(squares)


def naive_relations(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, heads: int) -> float:
    """One sentence, head and query at a time, in plain numpy."""
    total, count = 0.0, 0
    for b in range(mask.shape[0]):
        real = [i for i in range(mask.shape[1]) if mask[b, i]]
        for h in range(heads):
            rows = []
            for states in (student, teacher):
                width = states.shape[-1] // heads
                x = states[b, real, h * width : (h + 1) * width].double().numpy()
                scores = x @ x.T / math.sqrt(width)
                exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
                rows.append(exponentials / exponentials.sum(axis=1, keepdims=True))
            total += float((rows[1] * np.log(rows[1] / rows[0])).sum())
            count += len(real)
    return total / count


def random_case(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores [B, 3, L, L] and states [B, L, 12] of both models, and a mask with at least one real token a row."""
    generator = torch.Generator().manual_seed(seed)
    batch, length = (int(torch.randint(1, 5, (), generator=generator)) for _ in range(2))
    lengths = torch.randint(1, length + 1, (batch,), generator=generator)
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    scores = [torch.randn(batch, 3, length, length, generator=generator) for _ in range(2)]
    states = [torch.randn(batch, length, 12, generator=generator) for _ in range(2)]
    return *scores, *states, mask  # type: ignore[return-value]


def test_attention_by_hand() -> None:
    student = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0], [3.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]]])
    # head 1 differs by 2 and 3, head 2 by 2: (4 + 9 + 4) / 8
    assert attention_loss(student, teacher, torch.ones(1, 2)).item() == pytest.approx(17 / 8, abs=1e-6)
    # only the first token is real: its one pair differs by 0 and 2: 4 / 2
    assert attention_loss(student, teacher, torch.tensor([[1, 0]])).item() == pytest.approx(2.0, abs=1e-6)


def test_hidden_by_hand() -> None:
    student, teacher = torch.tensor([[[1.0, 2.0], [5.0, 5.0]]]), torch.tensor([[[0.0, 4.0], [5.0, 2.0]]])
    assert hidden_loss(student, teacher, torch.ones(1, 2)).item() == pytest.approx((1 + 4 + 0 + 9) / 4, abs=1e-6)
    assert hidden_loss(student, teacher, torch.tensor([[1, 0]])).item() == pytest.approx(2.5, abs=1e-6)


def test_prediction_by_hand() -> None:
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    assert prediction_loss(student, teacher, "classification").item() == pytest.approx(math.log(2), abs=1e-6)
    student = torch.tensor([[math.log(4.0), 0.0]])  # 0.8, 0.2 against 0.75, 0.25
    expected = -(0.75 * math.log(0.8) + 0.25 * math.log(0.2))
    assert prediction_loss(student, teacher, "classification").item() == pytest.approx(expected, abs=1e-6)
    # at temperature 2 the logits halve: 3 and 4 become sqrt(3) and 2
    p = math.sqrt(3) / (1 + math.sqrt(3))
    expected = -4 * (p * math.log(2 / 3) + (1 - p) * math.log(1 / 3))
    assert prediction_loss(student, teacher, "classification", 2.0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_prediction_keeps_its_balance_at_any_temperature(kind: Kind) -> None:
    """Between temperatures of 8 and 64 the gradient stays the same; without the factor it falls to 1 / 64 of it."""
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(6, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(6, 3, dtype=torch.float64),
    )
    sizes = []
    for temperature in (8.0, 64.0):
        (gradient,) = torch.autograd.grad(prediction_loss(student, teacher, kind, temperature), student)
        sizes.append(float(gradient.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_prediction_at_temperature_1_is_plain_cross_entropy_to_the_bit() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(64, 3), torch.randn(64, 3)
    plain = torch.nn.functional.cross_entropy(student, teacher.softmax(-1))
    assert torch.equal(prediction_loss(student, teacher, "classification", 1.0), plain)


def test_prediction_of_other_kinds_by_hand() -> None:
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [5.0]])
    assert prediction_loss(student, teacher, "regression").item() == pytest.approx(2.5, abs=1e-6)
    zero, three = torch.tensor([[0.0]]), torch.tensor([[math.log(3.0)]])  # sigmoid 0.5 and 0.75
    assert prediction_loss(zero, three, "multi_label").item() == pytest.approx(math.log(2), abs=1e-6)
    expected = -(0.5 * math.log(0.75) + 0.5 * math.log(0.25))
    assert prediction_loss(three, zero, "multi_label").item() == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_losses_equal_naive_loops(seed: int) -> None:
    student_scores, teacher_scores, student, teacher, mask = random_case(seed)
    attention = attention_loss(student_scores, teacher_scores, mask).item()
    assert attention == pytest.approx(naive_attention(student_scores, teacher_scores, mask), abs=1e-6)
    assert hidden_loss(student, teacher, mask).item() == pytest.approx(naive_hidden(student, teacher, mask), abs=1e-6)
    relations = relation_loss(student, teacher, mask, 3).item()
    assert relations == pytest.approx(naive_relations(student, teacher, mask, 3), abs=1e-5)


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_padding_and_order_do_not_matter(seed: int) -> None:
    student_scores, teacher_scores, student, teacher, mask = random_case(seed)
    pad = torch.nn.functional.pad
    before = (
        attention_loss(student_scores, teacher_scores, mask),
        hidden_loss(student, teacher, mask),
        relation_loss(student, teacher, mask, 3),
    )
    # three more padded tokens, holding anything at all
    wide = [pad(scores, (0, 3, 0, 3), value=1e3 * (i + 1)) for i, scores in enumerate((student_scores, teacher_scores))]
    long = [pad(states, (0, 0, 0, 3), value=7.0 * (i + 1)) for i, states in enumerate((student, teacher))]
    more, flip = pad(mask, (0, 3)), torch.arange(len(mask)).flip(0)
    after = (
        attention_loss(wide[0][flip], wide[1][flip], more[flip]),
        hidden_loss(long[0][flip], long[1][flip], more[flip]),
        relation_loss(long[0][flip], long[1][flip], more[flip], 3),
    )
    assert torch.stack(before).tolist() == pytest.approx(torch.stack(after).tolist(), abs=1e-5)


def test_relations_take_other_widths_and_are_zero_for_equal_relations() -> None:
    torch.manual_seed(0)
    states, mask = torch.randn(2, 5, 12), torch.ones(2, 5)
    turned = states.view(2, 5, 3, 4) @ torch.linalg.qr(torch.randn(4, 4)).Q  # a rotation keeps every dot product
    assert relation_loss(turned.reshape(2, 5, 12), states, mask, 3).item() == pytest.approx(0.0, abs=1e-6)
    assert relation_loss(torch.randn(2, 5, 6), states, mask, 3).item() > 1e-2


def test_padded_scores_get_no_gradient() -> None:
    scores = torch.randn(1, 2, 3, 3, requires_grad=True)
    attention_loss(scores, torch.randn(1, 2, 3, 3), torch.tensor([[1, 1, 0]])).backward()
    assert scores.grad is not None
    assert scores.grad[:, :, 2].abs().sum() == 0
    assert scores.grad[:, :, :, 2].abs().sum() == 0
    assert scores.grad[:, :, :2, :2].abs().min() > 0
