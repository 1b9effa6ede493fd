"""Directions, regressions and low-rank heads: exact where they can be, else no worse than the best."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.distillation.initialization.low_rank import (
    BLOCK,
    Whitening,
    least_squares,
    low_rank_scores,
    moments,
    principal_directions,
)


def test_principal_directions_are_orthonormal_and_best() -> None:
    torch.manual_seed(0)
    states = torch.randn(500, 6) * torch.tensor([5.0, 4.0, 3.0, 2.0, 0.1, 0.01])
    basis = principal_directions([states], 4)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4))
    retained = (states @ basis).square().sum() / states.square().sum()
    best = np.linalg.svd(states.numpy(), compute_uv=False)[:4]
    assert float(retained) == pytest.approx(float((best**2).sum() / states.square().sum()), rel=1e-5)
    ones = torch.full((4,), 0.5)  # what a layer norm removes carries least
    along = (states @ basis @ ones).square().mean()
    assert along < 1.1 * (states @ basis).square().mean(0).sum() * 4 / (25 + 16 + 9 + 4)
    assert torch.equal(principal_directions([states], 6), torch.eye(6))


def test_least_squares_recovers_an_affine_map() -> None:
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(3, 5), torch.randn(3), torch.randn(400, 5)
    solved, shift = least_squares(inputs, inputs @ weight.T + bias)
    torch.testing.assert_close(solved, weight, atol=5e-3, rtol=0)
    torch.testing.assert_close(shift, bias, atol=5e-3, rtol=0)


def test_moments_in_blocks_are_those_of_float64() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(2 * BLOCK + 17, 5) + 3, torch.randn(2 * BLOCK + 17, 3)
    blocked, exact = moments(left, right), left.double().T @ right.double()
    assert blocked.dtype == torch.float64
    assert (blocked - exact).norm() < 1e-6 * left.double().norm() * right.double().norm()


def test_low_rank_scores_are_exact_at_full_rank_and_best_below() -> None:
    torch.manual_seed(0)
    query, key = ((torch.randn(6, 10), torch.randn(6)) for _ in range(2))
    inputs = torch.randn(300, 10) * torch.linspace(0.2, 3.0, 10)
    exact = (inputs @ query[0].T + query[1]) @ (inputs @ key[0].T + key[1]).T

    def scores(rank: int) -> torch.Tensor:
        (qw, qb), (kw, kb) = low_rank_scores(query, key, Whitening(inputs), rank)
        assert qw.shape == kw.shape == (rank, 10)
        return (inputs @ qw.T + qb) @ (inputs @ kw.T + kb).T

    torch.testing.assert_close(scores(6), exact, atol=1e-2, rtol=1e-3)
    # Eckart-Young: no matrix of rank 3 comes closer than the truncated SVD of the scores themselves
    tail = torch.linalg.svdvals(exact.double())[3:].square().sum().sqrt()
    assert (scores(3) - exact).double().norm() == pytest.approx(float(tail), rel=1e-3)
