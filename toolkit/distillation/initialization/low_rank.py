"""Linear algebra of `--init teacher`: principal directions, ridge regression, low-rank attention heads.

Shapes: n tokens of a sample, d / D widths of student / teacher. Computation is in float64, results are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 4096  # tokens held in float64 at a time
RIDGE = 1e-3  # times the mean eigenvalue: damps directions that a small sample hardly contains
Affine = tuple[Tensor, Tensor]  # weight [out, in], bias [out]


def principal_directions(states: Sequence[Tensor], width: int) -> Tensor:
    """Compute an orthonormal basis [D, d] of the strongest directions of hidden states [n, D]; levels weigh the same.

    A reflection puts the weakest direction on the vector of ones, which a layer norm removes. At d = D the basis is the
    identity.
    """
    full = states[0].shape[1]
    if width == full:
        return torch.eye(full)
    moment = torch.zeros(full, full, dtype=torch.float64)
    for level in states:
        product = moments(level, level)
        moment += product / product.trace()
    strongest = torch.linalg.eigh(moment).eigenvectors.flip(-1)[:, :width]  # D, d, strongest first
    normal = torch.full((width,), width**-0.5, dtype=torch.float64)
    normal[-1] -= 1.0
    # a reflection that takes e_d to ones / sqrt(d)
    reflection = torch.eye(width).double() - 2.0 * torch.outer(normal, normal) / normal.square().sum()
    basis: Tensor = strongest @ reflection
    return basis.float()


class Ridge:
    """Ridge regression with an intercept, from fixed inputs to any number of targets.

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
        """Return W, b that minimise ||inputs W^T + b - targets||^2 for targets [n, out]."""
        mean = targets.mean(0)
        weight = torch.cholesky_solve(moments(self.centred, targets - mean), self.factor).T
        return weight.float(), (mean - weight @ self.mean.double()).float()


def least_squares(inputs: Tensor, targets: Tensor) -> Affine:
    """Solve a `Ridge` regression for inputs [n, in] that are used once."""
    return Ridge(inputs).solve(targets)


def diagonal_least_squares(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the scale and shift [d] of each dimension that bring inputs [n, d] closest to targets [n, d]."""
    centred = inputs - inputs.mean(0)
    scale = (centred * targets).sum(0) / centred.square().sum(0).clamp_min(1e-12)
    return scale, targets.mean(0) - scale * inputs.mean(0)


class Whitening:
    """Symmetric square root of the inputs' second moment, and its inverse: it weighs an error by its frequency.

    Args:
        inputs: [n, d]; a 1 is appended, so that biases count like any weight.
    """

    def __init__(self, inputs: Tensor) -> None:
        wide = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
        values, vectors = torch.linalg.eigh(moments(wide, wide) / len(wide))
        strengths = values.clamp_min(values[-1] * 1e-7).sqrt()  # a direction of strength 0 would divide by 0
        self.root = vectors * strengths @ vectors.T  # d + 1, d + 1
        self.inverse = vectors / strengths @ vectors.T


def low_rank_scores(query: Affine, key: Affine, inputs: Whitening, rank: int) -> tuple[Affine, Affine]:
    """Compute the queries and keys of a head at a smaller width, with the least error of its scores.

    They minimise E (x~^T A y~ - x~^T Q~^T K~ y~)^2 for A = W_q~^T W_k~, where ~ appends an input of 1 for the bias, by
    the SVD of C^T A C, with C C^T the second moment of the inputs.

    Args:
        query, key: (weight [d_head, d], bias [d_head]) of the teacher on the student's inputs, scaled so that
            q . k is the score itself.
        inputs: of the student.
        rank: d_head of the student.
    """
    # the product has rank d_head at most, so factor its two thin sides instead of a (d + 1)^2 matrix
    left_basis, left = torch.linalg.qr((_augmented(query) @ inputs.root).T)
    right_basis, right = torch.linalg.qr((_augmented(key) @ inputs.root).T)
    u, s, vh = torch.linalg.svd(left @ right.T)
    strength = s[:rank].sqrt()
    new_query = (left_basis @ (u[:, :rank] * strength)).T @ inputs.inverse
    new_key = (right_basis @ (vh[:rank].T * strength)).T @ inputs.inverse
    return _split(new_query), _split(new_key)


def low_rank_values(value: Affine, out: Tensor, inputs: Whitening, rank: int) -> Affine:
    """Compute the values of a head at a smaller width: the strongest directions behind the output matrix.

    Args:
        value: (weight [d_head, d], bias [d_head]) on the student's inputs.
        out: the head's columns of the output matrix, in the student's space, [d, d_head].
        inputs: of the student.
        rank: d_head of the student.
    """
    _, _, vh = torch.linalg.svd(out.double() @ _augmented(value) @ inputs.root, full_matrices=False)
    return _split(vh[:rank] @ inputs.inverse)  # the output matrix is solved for afterwards, so only the span matters


def moments(left: Tensor, right: Tensor) -> Tensor:
    """Compute left^T right in float64, [a, b], of float32 [n, a] and [n, b].

    Products in float32 would be twice as fast; their rounding, which depends on the number of processes, grows to 1e-4
    of the trained weights.
    """
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for left_block, right_block in zip(torch.split(left, BLOCK), torch.split(right, BLOCK), strict=True):
        total += left_block.double().T @ right_block.double()
    return total


def _augmented(affine: Affine) -> Tensor:
    return torch.cat([affine[0], affine[1][:, None]], dim=1).double()


def _split(wide: Tensor) -> Affine:
    return wide[:, :-1].float(), wide[:, -1].float()
