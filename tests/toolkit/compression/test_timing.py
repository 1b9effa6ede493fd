"""Lengths that stand for a data set, and latencies out of known times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from toolkit.compression import timing
from toolkit.compression.timing import Timed, latency_ms, relative_latency, typical_lengths
from toolkit.models.student import Shape

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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


def test_a_ratio_is_of_the_means_of_both_graphs_over_the_lengths(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Callable[..., Any]
) -> None:
    def known(runtimes: Mapping[str, Any], lengths: list[int], threads: int) -> dict[str, dict[int, float]]:
        assert (lengths, threads) == ([8, 16], 1)
        logits = runtimes["like"].run({name: np.ones((1, 8), dtype=np.int64) for name in INPUTS})
        assert logits.shape == (1, 2), "a graph that runs"
        return {"": {8: 2.0, 16: 3.0}, "like": {8: 1.0, 16: 2.0}}

    monkeypatch.setattr(timing, "time_in_turn", known)
    config = tiny_bert().config.to_dict()
    assert relative_latency(Recorder(), Shape(2, 24, 48, 4), config, [8, 16, 8], 1) == (2 + 3 + 2) / (1 + 2 + 1)


def test_a_measured_shape_comes_back_from_json() -> None:
    timed = Timed(Shape(2, 48, 192, 12), {8: 0.25, 16: 0.5}, 12345)
    assert Timed.from_dict(timed.to_dict()) == timed
