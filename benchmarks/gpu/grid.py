"""Latency and rows a second of both architectures by batch size, length and precision."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.gpu.models import Architectures
from benchmarks.gpu.report import Part
from toolkit.benchmarking.runners import RunnerCache
from toolkit.benchmarking.scenarios import sweep_batches
from toolkit.measurement.environment import physical_cores

SIZES = tuple(2**power for power in range(11))  # 1 to 1,024
LENGTHS = (128, 32, 512)  # the paper's first
WAYS = (("bf16", False), ("fp32", False), ("bf16", True))  # precision, and whether through CUDA graphs


def measure(part: Part) -> None:
    """Sweep the batch sizes of each model, length and way, until the time is over.

    Each point has its median time in ms at its batch size, which at 1 is the latency, and the rows a second.
    """
    tiny = part.settings.tiny
    models = Architectures.of(part.settings).bench_models(part.settings)
    runners = RunnerCache(physical_cores(), part.settings.device)
    rows: list[dict[str, Any]] = []
    sweeps = [(length, way, model) for length in ((8, 16) if tiny else LENGTHS) for way in WAYS for model in models]
    for length, (precision, graphs), model in sweeps:
        if not part.left_s:
            break
        runner = runners.pytorch(model, precision, graphs=graphs)
        try:
            points = sweep_batches(runner, (1, 4) if tiny else SIZES, length, models[0].vocabulary, seed=0)
            rows += [
                {"precision": precision, "runtime": runner.runtime_name, **asdict(point),
                 "median_ms": float(np.median(point.samples_ms))}
                for point in points
            ]  # fmt: skip
        except RuntimeError as error:
            rows.append({"model": runner.label, "length": length, "left_out": str(error).strip()})
        part.keep(rows)
