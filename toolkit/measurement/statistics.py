"""What paired measurements prove: the median of paired ratios, its bootstrap interval, a verdict on a claim.

Two programs are timed in turn, A B B A A B ..., so that whatever slows the machine for a while slows both. Of n
pairs (a_i, b_i) the estimate is the median of a_i / b_i: how many times faster B is than A. Its 95 % interval is
the percentile bootstrap (Efron 1979): draw n pairs with replacement, take the median, 10,000 times.

One process is one draw from all processes: where its memory happens to lie is part of its speed. `replicated_ratio`
therefore takes each fresh process as one number, and its interval from the spread between them (Kalibera and Jones,
"Rigorous benchmarking in reasonable time", 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
CONFIDENCE = 0.95
LOOK_CONFIDENCE = 0.999  # while pairs still come in: many looks at 95 % would stop on chance far more often than 5 %
RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """How many times faster B is than A, and its 95 % interval.

    Attributes:
        value: the estimate.
        low, high: ends of the interval.
        pairs: n, the pairs that it comes from, or the processes where there were several.
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the value."""
        return (self.high - self.low) / 2 / self.value

    def verdict(self, claim: float) -> Verdict:
        """PASS when the whole interval is at or above the claim, FAIL when below, else INCONCLUSIVE."""
        if self.low >= claim:
            return "PASS"
        return "FAIL" if self.high < claim else "INCONCLUSIVE"

    def needed(self, claim: float) -> int | None:
        """How many pairs (or processes) in all would decide a claim, if their spread stays what it is.

        An interval narrows with the square root of n: n' = n (w / d)^2, with w its width on the claim's side and d
        the distance of the estimate from the claim. None where no number of them would: the estimate is the claim.
        """
        distance = abs(self.value - claim)
        width = self.value - self.low if self.value >= claim else self.high - self.value
        if distance < 1e-3 * claim:
            return None
        return max(self.pairs, math.ceil(self.pairs * (width / distance) ** 2))


def paired_ratio(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Ratio:
    """Median of a_i / b_i with its percentile bootstrap interval.

    Args:
        a, b: n positive times each, [n]; a_i and b_i were measured next to each other.
        confidence: of the interval.
        seed: of the resampling; the same samples always give the same interval.

    Raises:
        ValueError: no pairs, unequal counts, or times that are not positive and finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"expected two equally long series, got shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all() and min(first.min(), second.min()) > 0):
        raise ValueError("expected times that are positive and finite")
    ratios = first / second
    draws = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def replicated_ratio(medians: Sequence[float]) -> Ratio:
    """Geometric mean of the ratios that N fresh processes found, with Student's t interval of their logarithms.

    exp(mean(log r) -+ t(0.975, N - 1) s / sqrt(N)), s the standard deviation of log r between processes.

    Raises:
        ValueError: fewer than two processes, or ratios that are not positive and finite.
    """
    from scipy.stats import t

    found = np.asarray(medians, dtype=np.float64)
    if len(found) < 2 or not (np.isfinite(found).all() and found.min() > 0):
        raise ValueError(f"expected two ratios or more, positive and finite, got {list(medians)}")
    logs = np.log(found)
    reach = t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, value, high = np.exp(logs.mean() + np.array([-reach, 0.0, reach]))
    return Ratio(float(value), float(low), float(high), len(logs))


def product_ratio(ratios: Sequence[Ratio]) -> Ratio:
    """Product of independent ratios; the half-widths of their logarithms add in quadrature."""
    value = math.prod(one.value for one in ratios)
    down = math.hypot(*(math.log(one.value / one.low) for one in ratios))
    up = math.hypot(*(math.log(one.high / one.value) for one in ratios))
    return Ratio(value, value * math.exp(-down), value * math.exp(up), min(one.pairs for one in ratios))


def changed_ratio(old: Sequence[float] | np.ndarray, new: Sequence[float] | np.ndarray, *, seed: int = 0) -> Ratio:
    """Median of one series over the median of another, not paired, with its bootstrap interval.

    Args:
        old, new: positive numbers, [n] and [m]; the value is median(new) / median(old).
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    below, above = (
        np.median(one[random.integers(0, len(one), (RESAMPLES, len(one)))], axis=1)
        for one in (np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64))
    )
    low, high = np.quantile(above / below, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(float(np.median(new) / np.median(old)), float(low), float(high), min(len(old), len(new)))


def relative_iqr(times: Sequence[float] | np.ndarray) -> float:
    """Spread of a series of times: the range of its middle half as a share of the median."""
    low, middle, high = np.quantile(np.asarray(times, dtype=np.float64), [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def percentile(times: Sequence[float] | np.ndarray, share: float) -> float | None:
    """The time that a share of the queries stays within (nearest rank); None where too few of them lie above it."""
    ordered = np.sort(np.asarray(times, dtype=np.float64))
    if len(ordered) * (1 - share) < 1 - 1e-9:  # 100 queries for a p99
        return None
    return float(ordered[math.ceil(share * len(ordered) - 1e-9) - 1])


def is_decided(a: Sequence[float], b: Sequence[float], *, claim: float | None, precision: float) -> bool:
    """Whether enough pairs are in: the claim is settled, or without a claim the interval is narrow enough.

    Args:
        a, b: times so far, [n].
        claim: the ratio that is claimed, or None where only the figure is wanted.
        precision: the half-width, as a share of the ratio, that is narrow enough without a claim.
    """
    ratio = paired_ratio(a, b, confidence=LOOK_CONFIDENCE if claim is not None else CONFIDENCE)
    if claim is None:
        return ratio.half_width <= precision
    return ratio.verdict(claim) != "INCONCLUSIVE"
