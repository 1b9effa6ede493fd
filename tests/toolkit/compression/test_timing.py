"""Lengths that stand for a data set, and latencies out of known times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from toolkit.compression import timing
from toolkit.compression.timing import Timed, latency_ms, typical_lengths
from toolkit.models.student import Shape


def test_typical_lengths_are_distributed_as_the_data() -> None:
    # of 0 to 1600 the quantiles 1/32, 3/32 ... are 50, 150 ...; below 2 there is no text
    assert typical_lengths(np.arange(1601)) == list(range(50, 1600, 100))
    assert typical_lengths(np.array([1])) == [2] * 16


class Recorder:
    """A runtime that keeps the lengths of its texts."""

    def __init__(self) -> None:
        self.lengths = list[int]()

    def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        assert {array.shape for array in batch.values()} == {batch["input_ids"].shape}
        self.lengths.append(batch["input_ids"].shape[1])
        return np.zeros((1, 2), dtype=np.float32)


@pytest.mark.parametrize(("threads", "clock"), [(1, time.thread_time_ns), (2, time.perf_counter_ns)])
def test_a_latency_is_the_mean_of_the_fastest_runs(
    monkeypatch: pytest.MonkeyPatch, threads: int, clock: Callable[[], int]
) -> None:
    runtime = Recorder()

    def known(programs: Mapping[str, Callable[[], object]], rounds: int, used: object) -> dict[str, list[float]]:
        assert used is clock
        for program in programs.values():
            program()
        return dict(zip(programs, [[9.0, 1.0, 2.0], [7.0, 4.0, 5.0]], strict=True))

    monkeypatch.setattr(timing, "measure_in_turn", known)
    assert latency_ms(runtime, [8, 8, 16], threads) == (1 + 1 + 4) / 3
    assert runtime.lengths == [8, 16]


def test_a_measured_shape_comes_back_from_json() -> None:
    timed = Timed(Shape(2, 48, 192, 12), {8: 0.25, 16: 0.5}, 12345)
    assert Timed.from_dict(timed.to_dict()) == timed
