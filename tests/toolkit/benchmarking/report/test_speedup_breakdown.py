"""The gain by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.bench import report
from toolkit.benchmarking.report.speedup_breakdown import speedup_breakdown
from toolkit.benchmarking.results import Kind


def test_gains_stand_apart_and_multiply() -> None:
    ((name, steps),) = speedup_breakdown(report())
    assert name == "runs/int8, batch 1"
    assert [step.name for step in steps] == [
        "distillation", "ONNX", "int8", "batching by length", "product at a fixed length", "measured directly",
        "product with batching",
    ]  # fmt: skip
    assert [step.size_bytes for step in steps[:4]] == [80, 82, 22, 22]
    assert [step.score for step in steps[:4]] == [0.85, 0.85, 0.84, 0.84]
    fixed, direct, whole = steps[4:]
    assert fixed.faster.value == pytest.approx(12 * 1.25 * 1.5)
    assert whole.faster.value == pytest.approx(12 * 1.25 * 1.5 * 2)
    assert fixed.smaller == pytest.approx(400 / 22) == direct.smaller
    assert direct.faster.value == 22
    # three independent steps of 10 % each: sqrt(3) times as wide, in logarithms
    assert np.log(fixed.faster.high / fixed.faster.value) == pytest.approx(np.sqrt(3) * np.log(1.1))


def test_without_the_first_step_there_is_no_breakdown() -> None:
    whole = report()
    rest = [comparison for comparison in whole.comparisons if comparison.kind != Kind.DISTILLATION_PYTORCH]
    assert speedup_breakdown(replace(whole, comparisons=rest)) == []


def test_without_batching_the_breakdown_ends_at_a_fixed_length() -> None:
    whole = report()
    rest = [comparison for comparison in whole.comparisons if comparison.kind != Kind.BATCHING]
    ((_, steps),) = speedup_breakdown(replace(whole, comparisons=rest))
    assert [step.name for step in steps[3:]] == ["product at a fixed length", "measured directly"]
