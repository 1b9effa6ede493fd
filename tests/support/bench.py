"""Options for quick benches, and comparisons and reports of known numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from toolkit.benchmarking.report.read import SCHEMA_VERSION
from toolkit.benchmarking.results import Comparison, Kind, ModelFacts, Report, Resolved, Side
from toolkit.config import BenchConfig

QUICK: dict[str, Any] = {
    "batch_sizes": (1,), "length": 16, "max_pairs": 5, "threads": 1, "scenarios": "", "grid": (1,),
}  # fmt: skip
CONFIG = BenchConfig(
    bundles=("student",), batch_sizes=(1,), length=16, max_pairs=5, threads=1, queries=12, grid=(4, 1), speed_claim=1.0,
)  # fmt: skip


def side(model: str, runtime: str, precision: str, score: float | None = None) -> Side:
    label = f"{model}, {precision} {runtime}"
    return Side(label=label, model=model, runtime=runtime, precision=precision, score=score)


BASE_TORCH, BASE = side("BERT-base", "pytorch", "fp32"), side("BERT-base", "onnxruntime", "fp32")
TORCH, ONNX = side("tinybert4", "pytorch", "fp32", 0.85), side("tinybert4", "onnxruntime", "fp32", 0.85)
INT8 = side("runs/int8", "onnxruntime", "int8", 0.84)


def comparison(kind: Kind, a: Side, b: Side, ratio: float, *, seed: int = 0, noise: float = 0.02) -> Comparison:
    """A comparison of 30 pairs with a known ratio."""
    random = np.random.default_rng(seed)
    below = 10 * np.exp(random.normal(0, noise, 30))
    above = ratio * 10 * np.exp(random.normal(0, noise, 30))
    return Comparison(
        kind=kind, a=a, b=b, batch_size=1, length=128, claim=None, pairs=30, ratio=ratio, low=0.9 * ratio,
        high=1.1 * ratio, a_samples_ms=above.tolist(), b_samples_ms=below.tolist(), a_median_ms=10 * ratio,
        b_median_ms=10.0, a_noise=noise, b_noise=noise, stopped="all pairs", warm_up_runs=[2, 2], steady=True,
    )  # fmt: skip


def facts(name: str, architecture: str, **changes: Any) -> ModelFacts:
    """A model of 100 parameters in 402 bytes, with what the test changes."""
    values: dict[str, Any] = {
        "dimensions": architecture, "note": "", "baseline": False, "precision": "fp32", "parameters": 100,
        "parameters_with_projection": None, "flops": None, "flops_length": 128, "fp32_onnx_bytes": 402,
        "fp32_onnx_sha256": "0" * 64, "size_bytes": 402, "part_bytes": {}, "metric": None, "score": None,
        "fp32_score": None, "teacher_score": None, "digest": None, "files": {},
    }  # fmt: skip
    return ModelFacts(name=name, architecture=architecture, **(values | changes))


def report(seed: int = 0, bundle: str = "runs/int8", int8: float = 1.5, noise: float = 0.02) -> Report:
    """A report on a bundle: 12 times faster by distillation, 1.25 by ONNX, `int8` by int8, 2 by batching."""
    given = replace(INT8, model=bundle, label=f"{bundle}, int8 ONNX")

    def measured(kind: Kind, a: Side, b: Side, ratio: float, number: int) -> Comparison:
        return comparison(kind, a, b, ratio, seed=seed + number, noise=noise)

    return Report(
        schema_version=SCHEMA_VERSION, created="2020-01-02T03:04:05+00:00", options={}, threads=2,
        resolved=Resolved(length=128, device="cpu"), claims=[], latency_by_length=[], throughput_by_batch=[],
        scenarios=[],
        environment={"cpu": "Test CPU", "python": "3.11", "gpu": None, "versions": {"torch": "2", "onnx": "1"}},
        models=[
            facts("BERT-base", "BERT-base", baseline=True),
            facts(bundle, "tinybert4", precision="int8", parameters=20, fp32_onnx_bytes=82, size_bytes=22),
        ],
        comparisons=[
            replace(comparison(Kind.CONTROL, ONNX, ONNX, 1.0), low=0.98, high=1.02),
            measured(Kind.DISTILLATION, BASE, ONNX, 13.0, 0),
            measured(Kind.DISTILLATION_PYTORCH, BASE_TORCH, TORCH, 12.0, 1),
            measured(Kind.ONNX, TORCH, ONNX, 1.25, 2),
            measured(Kind.INT8, ONNX, given, int8, 3),
            measured(Kind.TOTAL, BASE_TORCH, given, 22.0, 4),
            replace(measured(Kind.BATCHING, given, given, 2.0, 5), batch_size=64, length=None, median_tokens=20.0),
        ],
    )  # fmt: skip
