"""The timing loop against a clock that programs turn themselves: every answer is known, whatever the machine does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from toolkit.measurement.timing import MIN_PAIRS, MIN_PAIRS_LATE, WARM_WINDOW, measure_in_turn, measure_pairs, warm_up


class Clock:
    """A clock that stands still until a program runs."""

    def __init__(self, seed: int = 0) -> None:
        self.now, self.random = 0, np.random.default_rng(seed)

    def __call__(self) -> int:
        return self.now

    def program(self, ms: float, noise: float = 0.0, first: tuple[float, ...] = ()) -> Callable[[], None]:
        """One that takes `ms`, log-normal noise around it, and the times in `first` before that."""
        early = list(first)

        def run() -> None:
            took = early.pop(0) if early else ms * np.exp(self.random.normal(0, noise))
            self.now += int(took * 1e6)

        return run


def test_two_copies_of_one_model_give_an_interval_with_1_in_it() -> None:
    held = 0
    for seed in range(20):
        clock = Clock(seed)
        same = clock.program(10, noise=0.1), clock.program(10, noise=0.1)
        ratio = measure_pairs(*same, max_pairs=30, clock=clock).ratio
        held += ratio.low <= 1 <= ratio.high
    assert held >= 17  # 95 % of 20 is 19


def test_an_added_delay_that_doubles_the_time_is_found_as_2() -> None:
    held = 0
    for seed in range(20):
        clock = Clock(seed)
        model = clock.program(10, noise=0.1)
        delay = clock.program(10)

        def delayed(model: Callable[[], None] = model, delay: Callable[[], None] = delay) -> None:
            model()
            delay()

        ratio = measure_pairs(delayed, model, max_pairs=30, clock=clock).ratio
        held += ratio.low <= 2 <= ratio.high
        assert ratio.verdict(1.5) == "PASS"
        assert ratio.verdict(3.0) == "FAIL"
    assert held >= 17


def test_a_noisy_series_is_not_guessed_at() -> None:
    guesses = []
    for seed in range(15):
        clock = Clock(seed)
        sides = clock.program(94, noise=0.5), clock.program(10, noise=0.5)
        pairs = measure_pairs(*sides, max_pairs=30, claim=9.4, clock=clock)
        guesses.append(pairs.ratio.verdict(9.4))
    assert guesses.count("INCONCLUSIVE") >= 12  # a 95 % interval leaves out the truth once in twenty
    clock = Clock()
    quiet = measure_pairs(clock.program(95, 0.002), clock.program(10, 0.002), max_pairs=30, claim=9.4, clock=clock)
    assert quiet.ratio.verdict(9.4) == "PASS"
    assert pairs.to_dict()["b_noise"] > 0.3 > 0.05 > quiet.to_dict()["b_noise"]


def test_pairs_are_interleaved_and_balanced() -> None:
    ran: list[str] = []
    pairs = measure_pairs(lambda: ran.append("a"), lambda: ran.append("b"), max_pairs=6, claim=1.0, clock=Clock())
    assert [side.runs for side in pairs.warm_up] == [2 * WARM_WINDOW] * 2
    timed = "".join(ran)[4 * WARM_WINDOW :]
    assert timed == "aabb" + "bbaa" + "aabb" + "bbaa" + "aabb" + "bbaa"  # each once untimed, once timed
    assert len(pairs.a_ms) == len(pairs.b_ms) == 6
    assert pairs.stopped == "all pairs"


def test_slow_programs_run_once_before_each_time() -> None:
    clock, ran = Clock(), []
    slow = clock.program(200)

    def program(name: str) -> Callable[[], None]:
        return lambda: (ran.append(name), slow())[1]

    measure_pairs(program("a"), program("b"), max_pairs=2, clock=clock)
    assert "".join(ran) == "aabb" + "ab" + "ba"  # two runs of warm-up each, then every run is timed


def test_measuring_stops_when_decided_or_when_time_is_up() -> None:
    clock = Clock()
    a, b = clock.program(10, 0.01), clock.program(10, 0.01)
    for claim in (1e-9, 1e9):
        decided = measure_pairs(a, b, max_pairs=40, claim=claim, clock=clock)
        assert (len(decided.a_ms), decided.stopped) == (MIN_PAIRS, "decided")
    late = measure_pairs(a, b, max_pairs=40, claim=1e9, budget_s=0.0, clock=clock)
    assert (len(late.a_ms), late.stopped) == (MIN_PAIRS_LATE, "time")


@pytest.mark.parametrize(
    ("first", "ms", "runs", "steady"),
    [
        ((), 10, 6, True),
        ((90, 80, 70, 60, 50, 40, 30, 20), 10, 13, True),  # until three runs are no faster than the three before
        ((900, 800), 10, 7, True),
        ((), 2000, 2, True),  # a slow program's second run is as fast as its first
        (tuple(8000 * 0.9**i for i in range(50)), 1, 2, False),  # still falling after three seconds
    ],
)
def test_warm_up_lasts_until_a_program_is_as_fast_as_it_gets(
    first: tuple[float, ...], ms: float, runs: int, steady: bool
) -> None:
    clock = Clock()
    warm = warm_up(clock.program(ms, first=first), clock)
    assert (warm.runs, warm.steady) == (runs, steady)


def test_an_unsettled_side_is_reported() -> None:
    clock = Clock()
    falling = clock.program(1, first=tuple(8000 * 0.9**i for i in range(50)))
    assert not measure_pairs(falling, clock.program(10), max_pairs=5, clock=clock).to_dict()["steady"]
    assert measure_pairs(clock.program(10), clock.program(10), max_pairs=5, clock=clock).to_dict()["steady"]


def test_rounds_run_forwards_and_backwards() -> None:
    ran: list[str] = []
    programs = {name: lambda name=name: ran.append(name) for name in ("x", "y", "z")}
    times = measure_in_turn(programs, rounds=2, clock=Clock())  # type: ignore[arg-type]
    assert "".join(ran)[6 * WARM_WINDOW :] == "xxyyzz" + "zzyyxx"
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("xyz", 2)
