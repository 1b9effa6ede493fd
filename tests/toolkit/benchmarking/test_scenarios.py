"""Scenarios and sweeps on tiny models, by the code that measures the real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toolkit.benchmarking.comparisons import BenchContext, measure_comparisons, random_batch
from toolkit.benchmarking.results import Offline, SingleStream
from toolkit.benchmarking.scenarios import latency_by_length, text_scenarios, throughput_by_batch


def test_single_stream_and_offline_ask_every_text(context: BenchContext) -> None:
    scenarios = text_scenarios(context)
    # the baseline and the student in ONNX, the bundle as given in PyTorch
    assert [scenario.scenario for scenario in scenarios] == ["single", "single", "offline"] * 3
    assert [scenario.length for scenario in scenarios] == [None, 16, None] * 3
    for scenario in scenarios:
        assert scenario.queries == 12
        assert scenario.source.endswith("12 rows")
        if isinstance(scenario, SingleStream):
            assert len(scenario.samples_ms) == 12
            assert scenario.p50_ms == sorted(scenario.samples_ms)[5]
            assert scenario.p99_ms is None  # of twelve queries there is none
        else:
            assert isinstance(scenario, Offline)
            assert scenario.texts_per_s == np.median(scenario.samples_per_s)
    only = replace(context, config=replace(context.config, scenarios="offline"))
    assert {scenario.scenario for scenario in text_scenarios(only)} == {"offline"}
    assert text_scenarios(replace(context, splits={})) == []


def test_the_grid_of_a_gpu_runs_on_any_device(context: BenchContext) -> None:
    """The code that times CUDA in several precisions, here on the CPU."""
    wide = replace(context, config=replace(context.config, precisions=("fp32", "bf16")))
    points = throughput_by_batch(wide)
    assert {point.model.split(", ")[1] for point in points} == {"fp32 ONNX", "fp32 PyTorch", "bf16 PyTorch"}
    for point in points:
        assert point.batch_size in (1, 4)
        assert point.per_s == pytest.approx(1000 * point.batch_size / np.median(point.samples_ms))
    kinds = {comparison.kind for comparison in measure_comparisons(wide)}
    assert {"bf16", "total"} <= kinds
    batch = random_batch(2, 16, context.vocabulary, 0)
    exact, short = (context.runners.pytorch(context.models[0], name).runtime.run(batch) for name in ("fp32", "bf16"))
    assert short.dtype == np.float32
    assert 0 < np.abs(exact - short).max() < 0.1 * np.abs(exact).max()


def test_every_runner_is_timed_at_every_length_up_to_the_options(context: BenchContext) -> None:
    longer = replace(context, config=replace(context.config, length=40))
    points = latency_by_length(longer)
    assert [point.length for point in points] == [length for length in (16, 32, 40) for _ in range(3)]
    assert len({point.model for point in points}) == 3
    assert all(point.median_ms == np.median(point.samples_ms) > 0 for point in points)
