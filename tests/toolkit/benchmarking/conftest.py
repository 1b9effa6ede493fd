"""Models to bench, and the exporter that `toolkit.cli` hands to the bench."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import CONFIG
from toolkit.benchmarking.comparisons import BenchContext
from toolkit.benchmarking.models import BenchModel, from_bundle
from toolkit.benchmarking.random_models import Exporter, export_random
from toolkit.benchmarking.runners import RunnerCache
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.data.datasets import load_split


@pytest.fixture(scope="session")
def exporter() -> Exporter:
    from export.onnx_export import export_fp32

    return export_fp32


@pytest.fixture(scope="session")
def baseline(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]
) -> Path:
    """A plain Hugging Face directory of a model some eight times the student's size."""
    model = tiny_bert(hidden_size=96, intermediate_size=192, num_hidden_layers=4)
    return save_model(model, tmp_path_factory.mktemp("baseline") / "model")


@pytest.fixture(scope="session")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, exporter: Exporter) -> Path:
    """The student as an ONNX bundle with stock dynamic int8, scored on dev."""
    from onnxruntime.quantization import quantize_dynamic

    source = open_bundle(tiny_student)
    out = tmp_path_factory.mktemp("onnx") / "int8"
    manifest = {
        "kind": "onnx", "task": source.task.to_dict(), "precision": "int8", "max_length": 32, "parent": source.digest,
        "config": {}, "seed": 0, "metrics": {"accuracy": 0.75, "f1": 0.7}, "teacher_metrics": {"accuracy": 0.8},
    }  # fmt: skip
    with write_bundle(out, manifest) as staging:
        plain = export_random(source.config, out.parent / "plain", exporter)
        quantize_dynamic(plain, staging / "model.onnx")
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(tiny_student / name, staging)
    return out


@pytest.fixture(scope="session")
def context(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_bert: Callable[..., Any], data_dir: Path,
    exporter: Exporter,
) -> BenchContext:  # fmt: skip
    """The tiny student against a somewhat larger one, with texts of its task."""
    folder = tmp_path_factory.mktemp("context")
    model = from_bundle(open_bundle(tiny_student), folder, exporter)
    config = tiny_bert(hidden_size=48).config.to_dict()
    baseline = BenchModel("baseline", config, export_random(config, folder / "baseline", exporter))
    assert model.bundle is not None
    texts = load_split(model.bundle.task, "dev", data_dir).subsample(CONFIG.queries, CONFIG.seed)
    return BenchContext(CONFIG.on("cpu"), RunnerCache(1, "cpu"), baseline, [model], {model.name: texts})
