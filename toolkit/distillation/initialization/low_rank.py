"""The linear algebra behind `--init teacher`: principal directions, ridge regression, low-rank attention heads.

Shapes: n tokens of a sample, d / D widths of student / teacher. Computed in float64, returned in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 4096  # tokens that are held in float64 at a time
RIDGE = 1e-3  # of the mean eigenvalue: enough to tame directions that a small sample hardly shows
Affine = tuple[Tensor, Tensor]  # weight [out, in], bias [out]


def principal_directions(states: Sequence[Tensor], width: int) -> Tensor:
    """An orthonormal basis [D, d] of the strongest directions of hidden states [n, D], all levels weighing the same.

    The basis is turned so that the direction of all ones, which a layer norm removes, carries what is weakest. At
    d = D it is the identity: nothing need be turned.
    """
    full = states[0].shape[1]
    if width == full:
        return torch.eye(full)
    moment = torch.zeros(full, full, dtype=torch.float64)
    for one in states:
        product = moments(one, one)
        moment += product / product.trace()
    strongest = torch.linalg.eigh(moment).eigenvectors.flip(-1)[:, :width]  # D, d, strongest first
    normal = torch.full((width,), width**-0.5, dtype=torch.float64)
    normal[-1] -= 1.0
    turn = torch.eye(width).double() - 2.0 * torch.outer(normal, normal) / normal.square().sum()  # e_d to ones/sqrt(d)
    basis: Tensor = strongest @ turn
    return basis.float()


class Ridge:
    """Ridge regression with an intercept from the same inputs to any number of targets.

    Args:
        inputs: [n, in].
    """

    def __init__(self, inputs: Tensor) -> None:
        self.mean = inputs.mean(0)
        self.centred = inputs - self.mean
        gram = moments(self.centred, self.centred)
        gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
        self.factor = torch.linalg.cholesky(gram)

    def solve(self, targets: Tensor) -> Affine:
        """W, b that minimise ||inputs W^T + b - targets||^2 for targets [n, out]."""
        mean = targets.mean(0)
        weight = torch.cholesky_solve(moments(self.centred, targets - mean), self.factor).T
        return weight.float(), (mean - weight @ self.mean.double()).float()


def least_squares(inputs: Tensor, targets: Tensor) -> Affine:
    """`Ridge` for inputs [n, in] that are used once."""
    return Ridge(inputs).solve(targets)


def diagonal_least_squares(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift [d] of each dimension that bring inputs [n, d] closest to targets [n, d]."""
    centred = inputs - inputs.mean(0)
    scale = (centred * targets).sum(0) / centred.square().sum(0).clamp_min(1e-12)
    return scale, targets.mean(0) - scale * inputs.mean(0)


class Whitening:
    """Symmetric square root of the inputs' second moment, and its inverse, for weighing errors as they occur.

    Args:
        inputs: [n, d]; a 1 is appended, so that biases are weighed like any weight.
    """

    def __init__(self, inputs: Tensor) -> None:
        wide = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
        values, vectors = torch.linalg.eigh(moments(wide, wide) / len(wide))
        strengths = values.clamp_min(values[-1] * 1e-7).sqrt()  # directions never seen must not be divided by 0
        self.root = vectors * strengths @ vectors.T  # d + 1, d + 1
        self.inverse = vectors / strengths @ vectors.T


def low_rank_scores(query: Affine, key: Affine, seen: Whitening, rank: int) -> tuple[Affine, Affine]:
    """One head's queries and keys at a smaller width that keep its scores as well as any rank can.

    Minimises E (x~^T A y~ - x~^T Q~^T K~ y~)^2 for A = W_q~^T W_k~, ~ marking the bias as one more input that is 1,
    by the SVD of C^T A C with C C^T the inputs' second moment.

    Args:
        query, key: (weight [d_head, d], bias [d_head]) of the teacher on the student's inputs, scaled so that
            q . k is the score itself.
        seen: the student's inputs.
        rank: d_head of the student.
    """
    # the product has rank d_head at most, so factor its two thin sides instead of a (d + 1)^2 matrix
    left_basis, left = torch.linalg.qr((_augmented(query) @ seen.root).T)
    right_basis, right = torch.linalg.qr((_augmented(key) @ seen.root).T)
    u, s, vh = torch.linalg.svd(left @ right.T)
    strength = s[:rank].sqrt()
    new_query = (left_basis @ (u[:, :rank] * strength)).T @ seen.inverse
    new_key = (right_basis @ (vh[:rank].T * strength)).T @ seen.inverse
    return _split(new_query), _split(new_key)


def low_rank_values(value: Affine, out: Tensor, seen: Whitening, rank: int) -> Affine:
    """One head's values at a smaller width: the directions that reach furthest through the output matrix.

    Args:
        value: (weight [d_head, d], bias [d_head]) on the student's inputs.
        out: this head's columns of the output matrix, in the student's space, [d, d_head].
        seen: the student's inputs.
        rank: d_head of the student.
    """
    _, _, vh = torch.linalg.svd(out.double() @ _augmented(value) @ seen.root, full_matrices=False)
    return _split(vh[:rank] @ seen.inverse)  # the output matrix is solved for afterwards, so only the span matters


def moments(left: Tensor, right: Tensor) -> Tensor:
    """left^T right in float64, [a, b], of float32 [n, a] and [n, b].

    Products in float32 would be twice as fast; their rounding, which differs between one process and several, grows
    to 1e-4 of the trained weights.
    """
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for some, others in zip(torch.split(left, BLOCK), torch.split(right, BLOCK), strict=True):
        total += some.double().T @ others.double()
    return total


def _augmented(affine: Affine) -> Tensor:
    return torch.cat([affine[0], affine[1][:, None]], dim=1).double()


def _split(wide: Tensor) -> Affine:
    return wide[:, :-1].float(), wide[:, -1].float()
