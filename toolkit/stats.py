"""What paired measurements prove: the median of paired ratios, its bootstrap interval, a verdict on a claim.

Two programs are timed in turn, A B B A A B ..., so that whatever slows the machine for a while slows both. Of n
pairs (a_i, b_i) the estimate is the median of a_i / b_i: how many times faster B is than A. Its 95 % interval is
the percentile bootstrap (Efron 1979): draw n pairs with replacement, take the median, 10,000 times.
"""

from __future__ import annotations

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
    """How many times faster B is than A: the median of paired ratios and its interval.

    Attributes:
        value: median of a_i / b_i.
        low, high: ends of the bootstrap interval.
        pairs: n.
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


def decided(a: Sequence[float], b: Sequence[float], *, claim: float | None, precision: float) -> bool:
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
