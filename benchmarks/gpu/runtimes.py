"""The claim in other runtimes, each where it is installed: torch.compile, and ONNX by onnxruntime-gpu."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.claim import HALF_CLAIM, compared
from benchmarks.gpu.models import Architectures
from benchmarks.gpu.report import LeftOutError, Part
from toolkit.benchmarking.comparisons import random_batch
from toolkit.benchmarking.models import BenchModel
from toolkit.benchmarking.other_runtimes import CompiledTorchRuntime
from toolkit.benchmarking.random_models import build, export_random
from toolkit.benchmarking.runners import Runner, RunnerCache
from toolkit.config.bench import PRESETS, SPEED_CLAIM
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import physical_cores

Sides = list[Runner]  # baseline, student, a copy of the student


def measure(part: Part) -> None:
    """Compare both architectures in each runtime; a row says why where one is left out."""
    models = Architectures.of(part.settings).bench_models(part.settings)
    size, length = (4, 16) if part.settings.tiny else (PRESETS["paper"]["batch_sizes"][0], PRESETS["paper"]["length"])
    batch = random_batch(size, length, models[0].vocabulary, seed=0)
    rows: list[dict[str, Any]] = []
    for name, claim, sides in _runtimes(part, models):
        try:
            rows.append(compared(sides(), batch, claim, part.left_s / 2, part.settings.device))
        except (LeftOutError, ToolkitError, RuntimeError) as error:
            rows.append({"runtime": name, "left_out": str(error).strip()})
        part.keep(rows)


def _runtimes(part: Part, models: tuple[BenchModel, BenchModel]) -> Iterator[tuple[str, float, Callable[[], Sides]]]:
    runners = RunnerCache(physical_cores(), part.settings.device)
    yield "onnxruntime", SPEED_CLAIM, lambda: _onnx(runners, models)
    yield "torch.compile", HALF_CLAIM, lambda: [_compiled(model, part.settings.device) for model in _three(models)]


def _three(models: tuple[BenchModel, BenchModel]) -> tuple[BenchModel, BenchModel, BenchModel]:
    return models[0], models[1], models[1]


def _onnx(runners: RunnerCache, models: tuple[BenchModel, BenchModel]) -> Sides:
    if not runners.has_onnx:
        raise LeftOutError(f"no onnxruntime that runs on {runners.device} is installed")
    try:
        from export.onnx_export import export_fp32
    except ModuleNotFoundError as error:
        raise LeftOutError(f"ONNX files cannot be written here: {error}") from error
    for model in models:
        if not model.onnx.exists():
            export_random(model.config, model.onnx.parent, export_fp32)
    base, student, again = _three(models)
    return [runners.onnx(base), runners.onnx(student), runners.onnx(again, copy=True)]


def _compiled(model: BenchModel, device: str) -> Runner:
    import torch

    runtime = CompiledTorchRuntime(build(model.config).to(torch.bfloat16), device)
    return Runner(model, model.architecture, runtime, "torch.compile", "bf16", None)
