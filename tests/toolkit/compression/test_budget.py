"""Limits, and what would have to give."""

from __future__ import annotations

import pytest

from toolkit.compression.budget import Budget, Cost


def test_the_worst_limit_counts() -> None:
    budget = Budget(latency_ms=1.0, size_mb=10.0, drop=2.0)
    assert budget.excess(Cost(1.5, 11.0, 3.0)) == pytest.approx(0.5)
    assert budget.excess(Cost(1.0, 12.0, 3.0)) == pytest.approx(0.2)
    assert budget.excess(Cost(1.0, 10.0, 3.0)) == pytest.approx(0.01)
    assert budget.excess(Cost(0.1, 1.0, -1.0)) == 0.0


def test_a_limit_holds_at_its_value_and_not_beyond() -> None:
    budget = Budget(latency_ms=1.0, size_mb=None, drop=0.0)
    assert budget.holds(Cost(1.0, 1e9, 0.0))
    assert budget.holds(Cost(1.0, 1e9, None))
    assert not budget.holds(Cost(1.0001, 1.0, 0.0))
    assert not budget.holds(Cost(1.0, 1.0, 0.01))


def test_what_would_have_to_give_lets_the_cost_in() -> None:
    budget, cost = Budget(1.0, 10.0, 1.0), Cost(1.23456, 9.0, 2.0)
    assert budget.gives(cost) == "--max-latency-ms 1.24 --max-drop 2"
    assert Budget(1.24, 10.0, 2.0).holds(cost)
    assert Budget(None, 0.01, None).gives(Cost(1.0, 1234.5)) == "--max-size-mb 1240"


def test_a_budget_says_its_limits() -> None:
    assert str(Budget(0.5, None, 1.5)) == "at most 0.5 ms a text, at most 1.5 points lost"
