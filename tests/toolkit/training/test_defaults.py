"""The rule for tasks of one's own gives what was measured, and what papers found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.training.defaults import FEWEST_EPOCHS, MOST_EPOCHS, MOST_LR, own_task


@pytest.mark.parametrize(
    ("rows", "classes", "width", "epochs", "lr"),
    [
        (15_000, 150, 384, 4, 2e-4),  # 95.7 % where three epochs at 5e-5 give 85.2
        (2_490, 2, 768, 20, 5e-5),  # RTE, arXiv 2006.04884
        (67_349, 2, 768, 3, 5e-5),  # SST-2: BERT's own
        (100, 2, 384, 20, 2e-4),
        (400_000, 1_000, 312, 3, 2e-4),
        (40_000, 2, 1024, 3, 2.8125e-5),
    ],
)
def test_known_tasks(rows: int, classes: int, width: int, epochs: int, lr: float) -> None:
    length = own_task(rows, classes, width, 32)
    assert (length.epochs, length.lr) == (epochs, pytest.approx(lr))


@given(st.integers(1, 10**7), st.integers(1, 10**5), st.integers(16, 4096), st.integers(1, 4096))
def test_both_are_bounded_and_larger_steps_take_no_fewer_epochs(rows: int, classes: int, width: int, step: int) -> None:
    length = own_task(rows, classes, width, step)
    assert FEWEST_EPOCHS <= length.epochs <= MOST_EPOCHS
    assert 0 < length.lr <= MOST_LR
    assert own_task(rows, classes, width, 2 * step).epochs >= length.epochs
