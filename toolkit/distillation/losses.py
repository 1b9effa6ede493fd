"""TinyBERT's losses (arXiv 1909.10351, section 3.1) and MiniLMv2's relation loss, averaged over real positions only.

Shapes: B batch, L tokens, A heads, d / D widths of student / teacher, C classes. `mask` [B, L] is 1 at real tokens.
Padding never counts: the share of a sentence in a loss does not depend on the other rows of its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from toolkit.tasks import Kind


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared difference of attention scores before softmax (Eq. 7).

    L_attn = 1/A * sum_a MSE(S_a, T_a), over pairs whose query and key are both real.

    Args:
        student, teacher: Q.K^T / sqrt(d_head), [B, A, L, L].
        mask: [B, L].
    """
    student, teacher = _at_least_float32(student), _at_least_float32(teacher)
    real = mask.to(student.dtype)
    pairs = real[:, :, None] * real[:, None, :]  # B, L, L
    squares = (student - teacher).square().mean(dim=1)  # B, L, L
    return (squares * pairs).sum() / pairs.sum()


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared difference of projected student states and teacher states (Eq. 8 and 9).

    L = MSE(H_S W, H_T) over real tokens and the D dimensions.

    Args:
        student: H_S W, [B, L, D].
        teacher: [B, L, D].
        mask: [B, L].
    """
    student, teacher = _at_least_float32(student), _at_least_float32(teacher)
    real = mask.to(student.dtype)
    squares = (student - teacher).square().mean(dim=-1)  # B, L
    return (squares * real).sum() / real.sum()


def prediction_loss(student: Tensor, teacher: Tensor, kind: Kind, temperature: float = 1.0) -> Tensor:
    """Compute the soft cross-entropy against the teacher (Eq. 10); for regression the mean squared difference.

    L_pred = - t^2 mean_b sum_c softmax(z_T / t)_c * log softmax(z_S / t)_c

    The gradients of soft targets shrink as 1 / t^2; scaled, they keep their balance with the label loss at any t
    (arXiv 1503.02531, section 2). The paper has no such factor, and t = 1 throughout.

    Args:
        student, teacher: logits [B, C].
        kind: "classification"; "multi_label" takes a sigmoid per class instead of the softmax; "regression" MSE.
        temperature: t, above 0; not read for regression.
    """
    if kind == "regression":
        return F.mse_loss(student, teacher)
    if kind == "multi_label":
        soft = F.binary_cross_entropy_with_logits(student / temperature, torch.sigmoid(teacher / temperature))
    else:
        soft = F.cross_entropy(student / temperature, torch.softmax(teacher / temperature, dim=-1))
    return soft * temperature**2


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, relation_heads: int) -> Tensor:
    """Compute the KL divergence between self-relations of teacher and student (MiniLMv2, arXiv 2012.15828, Eq. 4 to 6).

    R = softmax(X X^T / sqrt(width per relation head)) for X one of Q, K, V, split anew into `relation_heads`:
    neither head counts nor widths need be equal.

    Args:
        student: [B, L, d], heads side by side.
        teacher: [B, L, D].
        mask: [B, L]; a masked key gets no probability, a masked query does not count.
        relation_heads: r, which divides d and D.
    """
    target = _relations(teacher, mask, relation_heads).softmax(dim=-1)
    log_target = _relations(teacher, mask, relation_heads).log_softmax(dim=-1)
    log_student = _relations(student, mask, relation_heads).log_softmax(dim=-1)
    divergence = (target * (log_target - log_student)).sum(dim=-1).mean(dim=1)  # B, L
    real = mask.to(student.dtype)
    return (divergence * real).sum() / real.sum()


def _at_least_float32(states: Tensor) -> Tensor:
    """Convert to float32 or better: sums of squares in bf16 or fp16 lose digits."""
    return states.to(torch.promote_types(states.dtype, torch.float32))


def _relations(states: Tensor, mask: Tensor, relation_heads: int) -> Tensor:
    batch, length, width = states.shape
    split = states.view(batch, length, relation_heads, width // relation_heads).transpose(1, 2)  # B, r, L, width/r
    relations: Tensor = split @ split.transpose(-1, -2) / (width // relation_heads) ** 0.5
    return relations.masked_fill(~mask.bool()[:, None, None, :], torch.finfo(relations.dtype).min)
