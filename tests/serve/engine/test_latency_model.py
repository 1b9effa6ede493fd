"""The fit of a batch's duration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.latency_model import LatencyModel


def test_the_cost_of_a_batch_is_learnt() -> None:
    cost = LatencyModel()
    assert (cost.line(), cost.seconds(1000)) == ((0.0, 0.0), 0.0)
    cost.observe(10, 0.5)
    assert cost.line() == pytest.approx((0.05, 0.0))
    for tokens in (20, 40, 80, 10):
        cost.observe(tokens, 0.3 + 0.02 * tokens)
    assert cost.line() == pytest.approx((0.02, 0.3), rel=1e-6)
    assert cost.seconds(100, batches=3) == pytest.approx(2.9)
    for _ in range(600):  # the machine got twice as slow
        for tokens in (20, 40):
            cost.observe(tokens, 0.6 + 0.04 * tokens)
    assert cost.line() == pytest.approx((0.04, 0.6), rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0, 100)), min_size=1, max_size=60))
def test_costs_are_never_negative(batches: list[tuple[int, float]]) -> None:
    cost = LatencyModel()
    for tokens, seconds in batches:
        cost.observe(tokens, seconds)
    slope, start = cost.line()
    assert slope >= 0
    assert start >= 0
    assert np.isfinite(cost.seconds(10**6, 100))


def test_the_tokens_of_a_batch_of_so_many_seconds() -> None:
    model = LatencyModel()
    assert model.tokens(1.0, 0.1) == math.inf  # never measured
    for tokens in (10, 20):
        model.observe(tokens, 0.5 + 0.01 * tokens)
    assert model.tokens(2.0, 0.25) == pytest.approx(150)
    assert model.tokens(2.0, 0.1) == pytest.approx(450)  # 5 s, of which the fixed 0.5 s are a tenth
