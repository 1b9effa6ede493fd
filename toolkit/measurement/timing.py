"""Interleaved timing of two or more programs, which run in turn and never together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from toolkit.measurement.statistics import Ratio, is_decided, paired_ratio, relative_iqr

Program = Callable[[], object]
Clock = Callable[[], int]  # nanoseconds
Stop = Literal["decided", "all pairs", "time"]
MIN_PAIRS = 10  # before the interval may decide
MIN_PAIRS_LATE = 5  # before time may end it
LOOK_EVERY = 5  # pairs between two looks at the interval
PRECISION = 0.03  # half-width that is narrow enough where nothing is claimed
WARM_WINDOW = 3  # runs; warm-up ends when a window is no faster than the last; 1 for slow programs
WARM_GAIN = 0.05  # as a fraction of the last window: less is noise
WARM_UP_S = 3.0  # at most, but never less than two runs
# A program that runs for less than this runs once without the clock first, because the other side has filled the
# caches. For a longer program that is a fraction of a percent, and the second run would only cost time.
SETTLE_MS = 100.0


@dataclass(frozen=True)
class WarmUp:
    """The runs before the first timed run.

    Attributes:
        runs: their number.
        last_ms: time of the last run.
        steady: the runs stopped getting faster; False where time ended the warm-up first.
    """

    runs: int
    last_ms: float
    steady: bool


@dataclass(frozen=True)
class Pairs:
    """Times of A and B, measured in turn.

    Attributes:
        a_ms, b_ms: n times each, raw; a_ms[i] and b_ms[i] are neighbours in time.
        stopped: the reason: the interval decided, all pairs were in, or time was up.
        warm_up: of A and of B.
    """

    a_ms: list[float]
    b_ms: list[float]
    stopped: Stop
    warm_up: tuple[WarmUp, WarmUp]

    @property
    def ratio(self) -> Ratio:
        """The speed ratio: how many times faster B is than A."""
        return paired_ratio(self.a_ms, self.b_ms)

    def to_dict(self) -> dict[str, Any]:
        """Give the samples, medians, their noise, and the ratio with its interval, as reports store them."""
        ratio = self.ratio
        return {
            "a_samples_ms": self.a_ms,
            "b_samples_ms": self.b_ms,
            "a_median_ms": float(np.median(self.a_ms)),
            "b_median_ms": float(np.median(self.b_ms)),
            "a_noise": relative_iqr(self.a_ms),
            "b_noise": relative_iqr(self.b_ms),
            "ratio": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "pairs": ratio.pairs,
            "stopped": self.stopped,
            "warm_up_runs": [side.runs for side in self.warm_up],
            "steady": all(side.steady for side in self.warm_up),
        }


def measure_pairs(
    a: Program,
    b: Program,
    *,
    max_pairs: int,
    claim: float | None = None,
    budget_s: float = float("inf"),
    pause_s: float = 0.0,
    on_pair: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter_ns,
) -> Pairs:
    """Time A and B in turn, A B B A A B ..., until the interval decides, all pairs are in or time is up.

    Args:
        a, b: run the programs once, to the end; the answer of a GPU is in host memory.
        max_pairs: the most pairs. The first look at the interval comes after MIN_PAIRS.
        claim: the ratio that is claimed; its verdict ends the timing. Without a claim a narrow interval does.
        budget_s: seconds after which the timing ends, but not before MIN_PAIRS_LATE pairs.
        pause_s: seconds of rest before each side's turn, for runtimes whose idle threads spin for a while.
        on_pair: called after each pair.
        clock: gives the time in nanoseconds.
    """
    started = clock()
    warm = warm_up(a, clock), warm_up(b, clock)
    settle = [side.last_ms < SETTLE_MS for side in warm]
    times: tuple[list[float], list[float]] = ([], [])
    stopped: Stop = "all pairs"
    for pair in range(max_pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            if pause_s:
                time.sleep(pause_s)
            times[side].append(timed_ms((a, b)[side], settle=settle[side], clock=clock))
        on_pair()
        taken = pair + 1
        look = taken >= MIN_PAIRS and (taken - MIN_PAIRS) % LOOK_EVERY == 0
        if look and is_decided(*times, claim=claim, precision=PRECISION):
            stopped = "decided"
            break
        if MIN_PAIRS_LATE <= taken < max_pairs and (clock() - started) / 1e9 > budget_s:
            stopped = "time"
            break
    return Pairs(*times, stopped, warm)


def measure_in_turn(
    programs: Mapping[str, Program], rounds: int, clock: Clock = time.perf_counter_ns
) -> dict[str, list[float]]:
    """Time several programs, in ms, in rounds that run forwards and backwards in turn."""
    settle = {name: warm_up(program, clock).last_ms < SETTLE_MS for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds):
        for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(timed_ms(programs[name], settle=settle[name], clock=clock))
    return times


def warm_up(program: Program, clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run a program until it stops getting faster: until a window of runs is no faster than the last window."""
    times: list[float] = []
    while True:
        times.append(timed_ms(program, settle=False, clock=clock))
        window = WARM_WINDOW if times[-1] < SETTLE_MS else 1
        before, latest = times[-2 * window : -window], times[-window:]
        if len(before) == window and np.median(latest) >= (1 - WARM_GAIN) * np.median(before):
            return WarmUp(len(times), times[-1], steady=True)
        if len(times) >= 2 and sum(times) > 1000 * WARM_UP_S:
            return WarmUp(len(times), times[-1], steady=False)


def timed_ms(program: Program, *, settle: bool, clock: Clock = time.perf_counter_ns) -> float:
    """Measure the wall time of a run in ms, after an untimed run where `settle` asks for it."""
    if settle:
        program()
    start = clock()
    program()
    return (clock() - start) / 1e6
