"""Paired ratios against hand-worked and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolkit.measurement.statistics import (
    Ratio,
    changed_ratio,
    is_decided,
    paired_ratio,
    percentile,
    product_ratio,
    relative_iqr,
    replicated_ratio,
    undominated,
)

TIMES = hnp.arrays(np.float64, st.integers(1, 15).map(lambda n: 2 * n - 1), elements=st.floats(0.1, 1e4))


def noisy(random: np.random.Generator, pairs: int, ratio: float, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose true median ratio is known; the machine's speed drifts, which both sides of a pair share."""
    drift = 1 + random.random(pairs)
    return ratio * 10 * drift * np.exp(random.normal(0, spread, pairs)), 10 * drift


def test_identical_series_are_exactly_one() -> None:
    ratio = paired_ratio([3.0, 5.0, 4.0], [3.0, 5.0, 4.0])
    assert (ratio.value, ratio.low, ratio.high, ratio.pairs) == (1.0, 1.0, 1.0, 3)
    assert ratio.verdict(1.0) == "PASS"
    assert ratio.verdict(1.001) == "FAIL"


def test_exactly_twice_as_fast_whatever_the_drift() -> None:
    b = np.array([1.0, 50.0, 2.0, 900.0])
    ratio = paired_ratio(2 * b, b)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_the_value_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    a, b = [2.0, 30.0, 9.0], [1.0, 2.0, 3.0]  # ratios 2, 15, 3: median 3; medians 9 / 2 = 4.5
    assert paired_ratio(a, b).value == 3.0


def test_a_noisy_series_is_inconclusive_and_a_clear_one_is_not() -> None:
    a, b = noisy(np.random.default_rng(0), 20, ratio=9.4, spread=0.5)
    ratio = paired_ratio(a, b)
    assert ratio.low < 9.4 < ratio.high
    assert ratio.verdict(9.4) == "INCONCLUSIVE"
    assert ratio.verdict(2.0) == "PASS"
    assert ratio.verdict(50.0) == "FAIL"


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
        stopped += any(is_decided(a[:n], b[:n], claim=9.4, precision=0.0) for n in (10, 15, 20, 25, 30))
    assert stopped <= 3


def test_decided() -> None:
    a, b = noisy(np.random.default_rng(4), 20, ratio=14.0, spread=0.05)
    assert is_decided(a, b, claim=9.4, precision=0.0)
    assert is_decided(a, b, claim=20.0, precision=0.0)
    assert not is_decided(a, b, claim=14.0, precision=1.0)
    assert is_decided(a, b, claim=None, precision=0.5)
    assert not is_decided(a, b, claim=None, precision=1e-6)


@settings(max_examples=30, deadline=None)
@given(TIMES, st.floats(0.01, 100))
def test_scaling_and_swapping(b: np.ndarray, factor: float) -> None:
    a = np.roll(b, 1)
    ratio, scaled, swapped = paired_ratio(a, b), paired_ratio(a * factor, b), paired_ratio(b, a)
    assert scaled.value == pytest.approx(ratio.value * factor)
    assert scaled.low == pytest.approx(ratio.low * factor)
    assert swapped.value == pytest.approx(1 / ratio.value)  # exact for the median of an odd count
    assert (a / b).min() <= ratio.low <= ratio.value * (1 + 1e-12)
    assert ratio.value * (1 - 1e-12) <= ratio.high <= (a / b).max() * (1 + 1e-12)


def test_the_same_samples_give_the_same_interval() -> None:
    a, b = noisy(np.random.default_rng(5), 12, ratio=2.0)
    assert paired_ratio(a, b) == paired_ratio(a, b)


@pytest.mark.parametrize(
    ("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0]), ([float("nan")], [1.0])]
)
def test_samples_that_are_none(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        paired_ratio(a, b)


def test_the_number_that_would_decide() -> None:
    assert Ratio(10.0, 9.0, 12.0, 25).required_samples(9.5) == 100  # half as far as wide: four times as many
    assert Ratio(9.0, 8.0, 11.0, 25).required_samples(10.0) == 100  # below the claim, its upper side counts
    assert Ratio(10.0, 9.9, 10.1, 25).required_samples(5.0) == 25  # decided already
    assert Ratio(9.4, 9.0, 10.0, 25).required_samples(9.4) is None


def test_that_number_does_decide_more_often_than_not() -> None:
    random, verdicts = np.random.default_rng(7), []
    for _ in range(40):
        first = paired_ratio(*noisy(random, 20, ratio=10.0, spread=0.2))
        needed = first.required_samples(9.4)
        if first.verdict(9.4) == "INCONCLUSIVE" and needed and needed < 200:
            verdicts.append(paired_ratio(*noisy(random, 2 * needed, ratio=10.0, spread=0.2)).verdict(9.4))
    assert len(verdicts) >= 8
    assert verdicts.count("PASS") > len(verdicts) / 2


def test_processes_are_counted_not_their_pairs() -> None:
    ratio = replicated_ratio([8.0, 2.0])  # logs of 4 -+ log 2; t(0.975, 1) = 12.706, s / sqrt(2) = log 2
    assert ratio.value == pytest.approx(4.0)
    assert ratio.high == pytest.approx(4 * 2**12.706, rel=1e-3)
    assert ratio.low * ratio.high == pytest.approx(16.0)
    assert ratio.pairs == 2
    for wrong in ([], [1.0], [1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="two ratios or more"):
            replicated_ratio(wrong)


def test_the_interval_between_processes_covers_the_truth_where_pairs_alone_do_not() -> None:
    """Each process is off by its own factor: pairs of one process know nothing of it."""
    random, alone, together = np.random.default_rng(8), 0, 0
    for _ in range(40):
        runs = [
            paired_ratio(*noisy(random, 20, ratio=3 * np.exp(random.normal(0, 0.05)), spread=0.02)) for _ in range(4)
        ]
        alone += runs[0].low <= 3 <= runs[0].high
        ratio = replicated_ratio([run.value for run in runs])
        together += ratio.low <= 3 <= ratio.high
    assert alone < 20
    assert together >= 34


def test_products_of_ratios() -> None:
    ratio = product_ratio([Ratio(2.0, 1.0, 4.0, 9), Ratio(3.0, 3.0, 3.0, 5)])
    assert (ratio.value, ratio.low, ratio.high, ratio.pairs) == pytest.approx((6.0, 3.0, 12.0, 5))
    twice = product_ratio([Ratio(2.0, 1.0, 4.0, 9)] * 2)
    assert np.log2(twice.high / twice.value) == pytest.approx(np.sqrt(2))


def test_changes_between_series_that_are_not_paired() -> None:
    random = np.random.default_rng(9)
    old = np.exp(random.normal(0, 0.05, 40))
    ratio = changed_ratio(old, 0.8 * np.exp(random.normal(0, 0.05, 25)))
    assert ratio.low < 0.8 < ratio.high < 0.9
    assert changed_ratio(old, np.exp(random.normal(0, 0.05, 40))).verdict(1.0) == "INCONCLUSIVE"
    assert changed_ratio([2.0], [3.0]) == Ratio(1.5, 1.5, 1.5, 1)


def test_percentiles_are_of_real_queries_and_only_where_there_are_enough() -> None:
    times = list(range(1, 101))
    assert [percentile(times, fraction) for fraction in (0.5, 0.9, 0.99)] == [50, 90, 99]
    assert percentile(times[:99], 0.99) is None
    assert percentile(times[:10], 0.9) == 9
    assert percentile([7.0], 0.9) is None
    assert relative_iqr([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.2)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_the_frontier_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    best = undominated(points, lambda point: point[0], lambda point: point[1])
    beaten = {
        point
        for point in points
        for other in points
        if other != point and other[0] <= point[0] and other[1] >= point[1]
    }
    assert best == sorted(set(points) - beaten)
