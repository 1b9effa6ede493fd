"""Paired ratios against hand-worked and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolkit.stats import Ratio, decided, paired_ratio

TIMES = hnp.arrays(np.float64, st.integers(1, 15).map(lambda n: 2 * n - 1), elements=st.floats(0.1, 1e4))


def noisy(random: np.random.Generator, pairs: int, ratio: float, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose true median ratio is known; the machine's speed drifts, which both sides of a pair share."""
    drift = 1 + random.random(pairs)
    return ratio * 10 * drift * np.exp(random.normal(0, spread, pairs)), 10 * drift


def test_identical_series_are_exactly_one() -> None:
    found = paired_ratio([3.0, 5.0, 4.0], [3.0, 5.0, 4.0])
    assert (found.value, found.low, found.high, found.pairs) == (1.0, 1.0, 1.0, 3)
    assert found.verdict(1.0) == "PASS"
    assert found.verdict(1.001) == "FAIL"


def test_exactly_twice_as_fast_whatever_the_drift() -> None:
    b = np.array([1.0, 50.0, 2.0, 900.0])
    found = paired_ratio(2 * b, b)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_the_value_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    a, b = [2.0, 30.0, 9.0], [1.0, 2.0, 3.0]  # ratios 2, 15, 3: median 3; medians 9 / 2 = 4.5
    assert paired_ratio(a, b).value == 3.0


def test_a_noisy_series_is_inconclusive_and_a_clear_one_is_not() -> None:
    a, b = noisy(np.random.default_rng(0), 20, ratio=9.4, spread=0.5)
    found = paired_ratio(a, b)
    assert found.low < 9.4 < found.high
    assert found.verdict(9.4) == "INCONCLUSIVE"
    assert found.verdict(2.0) == "PASS"
    assert found.verdict(50.0) == "FAIL"


def test_verdict_at_the_bounds() -> None:
    ratio = Ratio(10.0, 9.4, 11.0, 5)
    assert ratio.verdict(9.4) == "PASS"
    assert ratio.verdict(11.0) == "INCONCLUSIVE"
    assert ratio.verdict(11.1) == "FAIL"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = [(r := paired_ratio(*noisy(random, 20, ratio=3.0))).low <= 3.0 <= r.high for _ in range(150)]
    assert 0.88 <= np.mean(covered) <= 0.995  # 95 % nominal; a median of 20 is a little off


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    a, b = noisy(np.random.default_rng(2), 15, ratio=2.0)
    usual, wide = paired_ratio(a, b), paired_ratio(a, b, confidence=0.999)
    assert wide.low < usual.low < usual.value < usual.high < wide.high


def test_looking_often_seldom_decides_wrongly() -> None:
    """With a true ratio just at the claim every decision is a coin's; stopping early must stay rare."""
    random = np.random.default_rng(3)
    stopped = 0
    for _ in range(60):
        a, b = noisy(random, 30, ratio=9.4)
        stopped += any(decided(a[:n], b[:n], claim=9.4, precision=0.0) for n in (10, 15, 20, 25, 30))
    assert stopped <= 3


def test_decided() -> None:
    a, b = noisy(np.random.default_rng(4), 20, ratio=14.0, spread=0.05)
    assert decided(a, b, claim=9.4, precision=0.0)
    assert decided(a, b, claim=20.0, precision=0.0)
    assert not decided(a, b, claim=14.0, precision=1.0)
    assert decided(a, b, claim=None, precision=0.5)
    assert not decided(a, b, claim=None, precision=1e-6)


@settings(max_examples=30, deadline=None)
@given(TIMES, st.floats(0.01, 100))
def test_scaling_and_swapping(b: np.ndarray, factor: float) -> None:
    a = np.roll(b, 1)
    found, scaled, swapped = paired_ratio(a, b), paired_ratio(a * factor, b), paired_ratio(b, a)
    assert scaled.value == pytest.approx(found.value * factor)
    assert scaled.low == pytest.approx(found.low * factor)
    assert swapped.value == pytest.approx(1 / found.value)  # exact for the median of an odd count
    assert (a / b).min() <= found.low <= found.value * (1 + 1e-12)
    assert found.value * (1 - 1e-12) <= found.high <= (a / b).max() * (1 + 1e-12)


def test_the_same_samples_give_the_same_interval() -> None:
    a, b = noisy(np.random.default_rng(5), 12, ratio=2.0)
    assert paired_ratio(a, b) == paired_ratio(a, b)


@pytest.mark.parametrize(
    ("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0]), ([float("nan")], [1.0])]
)
def test_samples_that_are_none(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        paired_ratio(a, b)
