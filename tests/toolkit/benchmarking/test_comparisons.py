"""Comparisons: each gain against the right side, claims on the right ones, batches as asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toolkit.benchmarking.comparisons import BenchContext, measure_comparisons, random_batch
from toolkit.benchmarking.results import Kind
from toolkit.benchmarking.runners import RunnerCache


def test_every_gain_stands_apart_and_only_distillation_has_the_claim(context: BenchContext) -> None:
    comparisons = {comparison.kind: comparison for comparison in measure_comparisons(context)}
    assert set(comparisons) == {
        Kind.CONTROL, Kind.DISTILLATION, Kind.DISTILLATION_PYTORCH, Kind.ONNX, Kind.TOTAL, Kind.TASK_LENGTHS,
        Kind.BATCHING,
    }  # fmt: skip
    assert {kind for kind, comparison in comparisons.items() if comparison.claim} == {Kind.DISTILLATION}
    assert comparisons[Kind.CONTROL].a == comparisons[Kind.CONTROL].b
    assert (comparisons[Kind.ONNX].a.runtime, comparisons[Kind.ONNX].b.runtime) == ("pytorch", "onnxruntime")
    assert comparisons[Kind.DISTILLATION].a.model == "3/48/48/4"
    batching = comparisons[Kind.BATCHING]
    assert (batching.rows, batching.batch_size, batching.length) == (12, 12, None)
    assert [side.label.split(", ")[-1] for side in (batching.a, batching.b)] == ["padded to 32", "by length"]
    for comparison in comparisons.values():
        ratios = np.divide(comparison.a_samples_ms, comparison.b_samples_ms)
        assert comparison.ratio == pytest.approx(np.median(ratios))


def test_random_batches_repeat_by_seed_and_hold_no_special_token() -> None:
    batch = random_batch(3, 7, 100, seed=1)
    assert {name: values.shape for name, values in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), (3, 7)
    )
    assert 50 <= batch["input_ids"].min() <= batch["input_ids"].max() < 100
    np.testing.assert_array_equal(batch["input_ids"], random_batch(3, 7, 100, seed=1)["input_ids"])
    assert (batch["input_ids"] != random_batch(3, 7, 100, seed=2)["input_ids"]).any()


def test_without_onnxruntime_on_the_device_both_sides_are_pytorch(context: BenchContext) -> None:
    runners = RunnerCache(1, "cpu")
    runners.has_onnx = False  # as on CUDA without onnxruntime-gpu
    bare = replace(context, runners=runners, splits={}, config=replace(context.config, precisions=("fp32", "bf16")))
    comparisons = measure_comparisons(bare)
    assert [comparison.kind for comparison in comparisons] == ["control", "distillation", "bf16", "total", "total"]
    assert {side.runtime for comparison in comparisons for side in (comparison.a, comparison.b)} == {"pytorch"}
