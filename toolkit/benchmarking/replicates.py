"""The claimed comparison in fresh processes: the speed of a process depends on where its memory happens to lie.

`python -m toolkit.benchmarking.replicates` is the child: the job as JSON on stdin, the times as JSON on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from toolkit.benchmarking.comparisons import CLAIM_BUDGET_S, BenchContext, claimed_comparison, random_batch
from toolkit.benchmarking.models import BenchModel
from toolkit.benchmarking.random_models import torch_threads
from toolkit.benchmarking.results import Comparison, Replication, Timing
from toolkit.benchmarking.runners import RunnerCache
from toolkit.config import BenchConfig
from toolkit.config.import_path import child_environment
from toolkit.console import progress
from toolkit.errors import ToolkitError
from toolkit.measurement.statistics import replicated_ratio
from toolkit.measurement.timing import measure_pairs

CHILD_TIMEOUT_S = 900.0


def replicate(context: BenchContext, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Repeat each claimed comparison in --replicates fresh processes; return all comparisons, with `replicated`.

    Raises:
        ToolkitError: a child failed or took too long.
    """
    config = context.config
    models = {model.architecture: model for model in context.models}
    jobs = [name for name in models for _ in range(config.replicates)]
    runs: dict[tuple[str, int], list[Timing]] = {}
    with progress("fresh processes", len(jobs)) as bar:
        for name in jobs:
            for size, timing in zip(config.batch_sizes, _run_child(context, models[name]), strict=True):
                runs.setdefault((name, size), []).append(timing)
            bar.advance()
    return [
        comparison if comparison.claim is None
        else replace(comparison, replicated=_combine(runs[comparison.b.model, comparison.batch_size]))
        for comparison in comparisons
    ]  # fmt: skip


def _combine(runs: list[Timing]) -> Replication:
    ratio = replicated_ratio([timing.ratio for timing in runs])
    return Replication(ratio=ratio.value, low=ratio.low, high=ratio.high, processes=ratio.pairs, runs=runs)


def make_job(context: BenchContext, model: BenchModel) -> dict[str, Any]:
    """Collect the options, the threads and the exported graphs of both sides for a child."""
    sides = [{"name": side.name, "config": side.config, "onnx": str(side.onnx)} for side in (context.baseline, model)]
    return {"sides": sides, "threads": context.runners.threads, "options": asdict(context.config)}


def run_job(job: dict[str, Any]) -> list[Timing]:
    """Time the comparison at each batch size, in the child."""
    options: dict[str, Any] = dict(job["options"])
    for name, value in options.items():
        options[name] = tuple(value) if isinstance(value, list) else value
    config = BenchConfig(**options)
    baseline, model = (BenchModel(side["name"], side["config"], Path(side["onnx"])) for side in job["sides"])
    timings = []
    with torch_threads(job["threads"]):
        context = BenchContext(config, RunnerCache(job["threads"], config.device), baseline, [model], {})
        planned = claimed_comparison(context, model)
        for size in config.batch_sizes:
            batch = random_batch(size, config.length, context.vocabulary, config.seed)
            pairs = measure_pairs(
                planned.a.program(batch), planned.b.program(batch), max_pairs=config.max_pairs, claim=planned.claim,
                budget_s=CLAIM_BUDGET_S,
            )  # fmt: skip
            timings.append(Timing(**pairs.to_dict()))
    return timings


def _run_child(context: BenchContext, model: BenchModel) -> list[Timing]:
    command = [sys.executable, "-m", "toolkit.benchmarking.replicates"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=json.dumps(make_job(context, model)), capture_output=True, text=True,
            timeout=CHILD_TIMEOUT_S, check=False, env=os.environ | child_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ToolkitError(
            f"a fresh process for --replicates has not ended after {CHILD_TIMEOUT_S:g} s",
            fix="fewer or smaller --batch-sizes, or --replicates 0",
        ) from None
    if done.returncode:
        raise ToolkitError(f"a fresh process for --replicates failed:\n{done.stderr.strip()[-2000:]}")
    return [Timing(**timing) for timing in json.loads(done.stdout)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(timing) for timing in run_job(json.load(sys.stdin))]))
