"""Interleaved timing of two or more programs, each left alone with the caches and cores while its clock runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from toolkit.stats import Ratio, decided, paired_ratio

Program = Callable[[], object]
Stop = Literal["decided", "all pairs", "time"]
MIN_PAIRS = 10  # before the interval may decide
MIN_PAIRS_LATE = 5  # before time may end it
LOOK_EVERY = 5  # pairs between two looks at the interval
PRECISION = 0.03  # half-width that is narrow enough where nothing is claimed
WARM_UPS = 2
# A program that runs for less than this is first run once without the clock: the other side has just filled the
# caches. For a longer one that is a fraction of a percent, and the second run would only cost time.
SETTLE_MS = 100.0


@dataclass(frozen=True)
class Pairs:
    """Times of A and B, measured in turn.

    Attributes:
        a_ms, b_ms: n times each, raw; a_ms[i] and b_ms[i] stood next to each other.
        stopped: the interval had decided, all pairs were in, or time was up.
    """

    a_ms: list[float]
    b_ms: list[float]
    stopped: Stop

    @property
    def ratio(self) -> Ratio:
        """How many times faster B is than A."""
        return paired_ratio(self.a_ms, self.b_ms)

    def to_json(self) -> dict[str, Any]:
        """Raw samples, medians and the ratio with its interval."""
        ratio = self.ratio
        return {
            "a_samples_ms": self.a_ms,
            "b_samples_ms": self.b_ms,
            "a_median_ms": float(np.median(self.a_ms)),
            "b_median_ms": float(np.median(self.b_ms)),
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "pairs": ratio.pairs,
            "stopped": self.stopped,
        }


def measure_pairs(
    a: Program,
    b: Program,
    *,
    max_pairs: int,
    claim: float | None = None,
    budget_s: float = float("inf"),
    on_pair: Callable[[], object] = lambda: None,
) -> Pairs:
    """Time A and B in turn, A B B A A B ..., until the interval decides, all pairs are in or time is up.

    Args:
        a, b: run the programs once.
        max_pairs: stop here. The interval is first looked at after MIN_PAIRS.
        claim: the ratio that is claimed: stop when it is settled. Without one, stop when the interval is narrow.
        budget_s: stop when this much time has passed, but not before MIN_PAIRS_LATE pairs.
        on_pair: called after each pair.
    """
    started = time.perf_counter()
    settle = [warm_up(program) < SETTLE_MS for program in (a, b)]
    times: tuple[list[float], list[float]] = ([], [])
    stopped: Stop = "all pairs"
    for pair in range(max_pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            times[side].append(timed_ms((a, b)[side], settle=settle[side]))
        on_pair()
        taken = pair + 1
        look = taken >= MIN_PAIRS and (taken - MIN_PAIRS) % LOOK_EVERY == 0
        if look and decided(*times, claim=claim, precision=PRECISION):
            stopped = "decided"
            break
        if MIN_PAIRS_LATE <= taken < max_pairs and time.perf_counter() - started > budget_s:
            stopped = "time"
            break
    return Pairs(*times, stopped)


def measure_in_turn(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    """Times in ms of several programs, in rounds that run forwards and backwards in turn."""
    settle = {name: warm_up(program) < SETTLE_MS for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds):
        for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(timed_ms(programs[name], settle=settle[name]))
    return times


def warm_up(program: Program) -> float:
    """Run it a few times; the time in ms of the last run."""
    return [timed_ms(program, settle=False) for _ in range(WARM_UPS)][-1]


def timed_ms(program: Program, *, settle: bool) -> float:
    """Wall time of one run in ms, after an untimed one where asked."""
    if settle:
        program()
    start = time.perf_counter_ns()
    program()
    return (time.perf_counter_ns() - start) / 1e6
