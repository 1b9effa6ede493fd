"""The claimed comparison in fresh processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.bench import BASE, comparison, side
from toolkit.benchmarking import replicates
from toolkit.benchmarking.comparisons import BenchContext
from toolkit.benchmarking.replicates import make_job, replicate, run_job
from toolkit.benchmarking.results import Kind
from toolkit.errors import ToolkitError


def test_a_job_gives_the_pairs_of_the_claimed_comparison(context: BenchContext) -> None:
    two = replace(context, config=replace(context.config, batch_sizes=(1, 2)))
    timings = run_job(json.loads(json.dumps(make_job(two, context.models[0]))))
    assert [len(timing.a_samples_ms) for timing in timings] == [5, 5]
    first = timings[0]
    assert first.ratio == pytest.approx(np.median(np.divide(first.a_samples_ms, first.b_samples_ms)))


@pytest.mark.slow
def test_fresh_processes_repeat_the_claimed_comparison(context: BenchContext) -> None:
    three = replace(context, config=replace(context.config, replicates=3, batch_sizes=(1, 2)))
    student = side(context.models[0].architecture, "onnxruntime", "fp32")
    claimed = [
        replace(comparison(Kind.DISTILLATION, BASE, student, 2.0), claim=1.0, batch_size=size) for size in (1, 2)
    ]
    unclaimed = comparison(Kind.ONNX, BASE, student, 1.5)
    *repeated, untouched = replicate(three, [*claimed, unclaimed])
    assert len(repeated) == 2
    for entry in repeated:
        again = entry.replicated
        assert again is not None
        assert len(again.runs) == again.processes == 3
        ratios = [timing.ratio for timing in again.runs]
        assert again.ratio == pytest.approx(np.exp(np.mean(np.log(ratios))))
        assert again.low <= again.ratio <= again.high
        assert len({tuple(timing.a_samples_ms) for timing in again.runs}) == 3
    assert untouched == unclaimed


def test_a_child_that_fails_is_told_of(context: BenchContext) -> None:
    gone = replace(context.baseline, onnx=Path("/nowhere/model.onnx"))
    with pytest.raises(ToolkitError, match="fresh process"):
        broken = replace(context, baseline=gone, config=replace(context.config, replicates=3))
        replicate(broken, [])


def test_a_child_that_takes_too_long_is_ended(context: BenchContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicates, "CHILD_TIMEOUT_S", 0.01)
    with pytest.raises(ToolkitError, match=r"has not ended after 0\.01 s") as caught:
        replicate(replace(context, config=replace(context.config, replicates=3)), [])
    assert "--batch-sizes" in caught.value.fix
