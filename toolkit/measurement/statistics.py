"""Statistics of paired times: the median of paired ratios, its bootstrap interval, the verdict on a claim.

Two programs are timed in turn, A B B A A B ..., so that a disturbance of the machine slows both. Of n pairs (a_i, b_i)
the estimate is the median of a_i / b_i: how many times faster B is than A. Its 95 % interval is the percentile
bootstrap (Efron 1979): draw n pairs with replacement, take the median, 10,000 times.

The place of its memory is part of a process's speed, so a process is a single draw. `replicated_ratio` takes each fresh
process as a single number, and its interval from the spread between them (Kalibera and Jones, "Rigorous benchmarking in
reasonable time", 2013).

Beside them: the frontier of points that have a cost and a gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

Point = TypeVar("Point")
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
CONFIDENCE = 0.95
LOOK_CONFIDENCE = 0.999  # while pairs still come in: many looks at 95 % stop on chance far more often than 5 %
RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """A speed ratio, how many times faster B is than A, and its 95 % interval.

    Attributes:
        value: the estimate.
        low, high: ends of the interval.
        pairs: n, the number of pairs, or of processes where there are several.
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval as a fraction of the value."""
        return (self.high - self.low) / 2 / self.value

    def verdict(self, claim: float) -> Verdict:
        """Give PASS if the whole interval is at or above the claim, FAIL if it is below, else INCONCLUSIVE."""
        if self.low >= claim:
            return "PASS"
        return "FAIL" if self.high < claim else "INCONCLUSIVE"

    def required_samples(self, claim: float) -> int | None:
        """Estimate the number of pairs (or processes) that decides a claim, if their spread stays the same.

        An interval narrows with the square root of n: n' = n (w / d)^2, with w its width on the claim's side and d
        the distance of the estimate from the claim. None if the estimate is the claim: no number decides.
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
    """Estimate the median of a_i / b_i with its percentile bootstrap interval.

    Args:
        a, b: n positive times each, [n]; a_i and b_i are neighbours in time.
        confidence: of the interval.
        seed: of the resampling; equal samples give equal intervals.

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
    """Average the ratios of N fresh processes: geometric mean, with Student's t interval of their logarithms.

    exp(mean(log r) -+ t(0.975, N - 1) s / sqrt(N)), s the standard deviation of log r between processes.

    Raises:
        ValueError: fewer than two processes, or ratios that are not positive and finite.
    """
    from scipy.stats import t

    ratios = np.asarray(medians, dtype=np.float64)
    if len(ratios) < 2 or not (np.isfinite(ratios).all() and ratios.min() > 0):
        raise ValueError(f"expected two ratios or more, positive and finite, got {list(medians)}")
    logs = np.log(ratios)
    reach = t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, value, high = np.exp(logs.mean() + np.array([-reach, 0.0, reach]))
    return Ratio(float(value), float(low), float(high), len(logs))


def product_ratio(ratios: Sequence[Ratio]) -> Ratio:
    """Multiply independent ratios; the half-widths of their logarithms add in quadrature."""
    value = math.prod(ratio.value for ratio in ratios)
    down = math.hypot(*(math.log(ratio.value / ratio.low) for ratio in ratios))
    up = math.hypot(*(math.log(ratio.high / ratio.value) for ratio in ratios))
    return Ratio(value, value * math.exp(-down), value * math.exp(up), min(ratio.pairs for ratio in ratios))


def changed_ratio(old: Sequence[float] | np.ndarray, new: Sequence[float] | np.ndarray, *, seed: int = 0) -> Ratio:
    """Divide the medians of two series that are not paired, with the bootstrap interval of the ratio.

    Args:
        old, new: positive numbers, [n] and [m]; the value is median(new) / median(old).
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    below, above = (
        np.median(series[random.integers(0, len(series), (RESAMPLES, len(series)))], axis=1)
        for series in (np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64))
    )
    low, high = np.quantile(above / below, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(float(np.median(new) / np.median(old)), float(low), float(high), min(len(old), len(new)))


def relative_iqr(times: Sequence[float] | np.ndarray) -> float:
    """Measure the spread of a series of times: the interquartile range as a fraction of the median."""
    low, middle, high = np.quantile(np.asarray(times, dtype=np.float64), [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def percentile(times: Sequence[float] | np.ndarray, fraction: float) -> float | None:
    """Give the time that a fraction of the queries stays within (nearest rank); None for too few queries."""
    if len(times) * (1 - fraction) < 1 - 1e-9:  # 100 queries for a p99
        return None
    return float(np.quantile(times, fraction, method="inverted_cdf"))


def is_decided(a: Sequence[float], b: Sequence[float], *, claim: float | None, precision: float) -> bool:
    """Return whether the pairs decide the claim or, without a claim, make the interval narrow enough.

    Args:
        a, b: times so far, [n].
        claim: the ratio that is claimed, or None where nothing is claimed.
        precision: the half-width that is narrow enough without a claim, as a fraction of the ratio.
    """
    ratio = paired_ratio(a, b, confidence=LOOK_CONFIDENCE if claim is not None else CONFIDENCE)
    if claim is None:
        return ratio.half_width <= precision
    return ratio.verdict(claim) != "INCONCLUSIVE"


def undominated(points: Sequence[Point], cost: Callable[[Point], float], gain: Callable[[Point], float]) -> list[Point]:
    """Return the points whose gain no other one of at most their cost reaches, by rising cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (cost(point), -gain(point))):
        if not best or gain(point) > gain(best[-1]):
            best.append(point)
    return best
