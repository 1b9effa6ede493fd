"""The peers compute the model they were given: held against PyTorch's own logits, padding and pairs included."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.benchmarking.other_runtimes import CompiledTorchRuntime, CTranslate2Runtime, OpenVinoRuntime, check_peer
from toolkit.benchmarking.random_models import Exporter
from toolkit.benchmarking.results import Kind
from toolkit.data.tokenization import Batch
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime


def some(rows: int, length: int, seed: int = 0) -> Batch:
    """Random ids with padding on the right and a second text, all by seed."""
    random = np.random.default_rng(seed)
    real = random.integers(3, length + 1, rows)
    mask = (np.arange(length) < real[:, None]).astype(np.int64)
    types = (np.arange(length) >= real[:, None] // 2).astype(np.int64) * mask
    return {
        "input_ids": random.integers(5, 90, (rows, length)) * mask, "attention_mask": mask, "token_type_ids": types,
    }  # fmt: skip


BATCHES = [some(4, 9), some(1, 16, seed=1), some(3, 30, seed=2)]


@pytest.fixture(scope="module")
def reference(tiny_student: Path) -> TorchRuntime:
    return TorchRuntime.load(tiny_student)


def test_ctranslate2_gives_the_models_logits(tiny_student: Path, reference: Runtime) -> None:
    exact = CTranslate2Runtime(tiny_student, precision="fp32", threads=1)
    for batch in BATCHES:
        np.testing.assert_allclose(exact.run(batch), reference.run(batch), atol=2e-5)
    assert check_peer("CTranslate2", exact, reference, BATCHES, "fp32") < 1e-4
    rounded = CTranslate2Runtime(tiny_student, precision="int8", threads=1)
    assert 1e-4 < check_peer("CTranslate2", rounded, reference, BATCHES, "int8") < 0.2


def test_openvino_gives_the_models_logits(tiny_onnx: Path, reference: Runtime) -> None:
    exact = OpenVinoRuntime(tiny_onnx / "model.onnx", precision="fp32", threads=1)
    for batch in BATCHES:
        np.testing.assert_allclose(exact.run(batch), reference.run(batch), atol=2e-5)


def test_openvino_quantizes_after_calibration(
    tiny_onnx: Path, reference: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = tiny_onnx / "model.onnx"
    with pytest.raises(ToolkitError, match="calibration"):
        OpenVinoRuntime(onnx, precision="int8")
    rounded = OpenVinoRuntime(onnx, precision="int8", threads=1, calibration=[some(1, 20, seed) for seed in range(8)])
    assert 1e-4 < check_peer("OpenVINO", rounded, reference, BATCHES, "int8") < 0.5
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_gives_the_models_logits(tiny_student: Path, reference: Runtime) -> None:
    compiled = CompiledTorchRuntime(TorchRuntime.load(tiny_student).model)
    check_peer("torch.compile", compiled, reference, BATCHES, "fp32")


@pytest.mark.slow
def test_the_bench_times_the_peers(
    tmp_path: Path, tiny_onnx: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path], exporter: Exporter
) -> None:
    from toolkit.benchmarking.bench import measure
    from toolkit.config import BenchConfig

    baseline = save_model(tiny_bert(hidden_size=48), tmp_path / "baseline")
    config = BenchConfig(
        bundles=(str(tiny_onnx),), baseline=str(baseline), out=str(tmp_path / "out"), batch_sizes=(1,), length=16,
        max_pairs=5, threads=1, scenarios="", grid=(1,), peers=True,
    )  # fmt: skip
    peers = [entry for entry in measure(config, exporter).content.comparisons if entry.kind == Kind.PEER]
    timed = {(entry.a.runtime, entry.a.precision) for entry in peers}
    assert timed >= {(name, precision) for name in ("CTranslate2", "OpenVINO") for precision in ("fp32", "int8")}
    assert (("torch.compile", "fp32") in timed) == (shutil.which("g++") is not None)
    assert {entry.b.runtime for entry in peers} == {"onnxruntime"}


def test_another_model_is_refused(reference: Runtime, tiny_onnx: Path, tiny_bert: Callable[..., Any]) -> None:
    other = TorchRuntime(tiny_bert(seed=1))
    for precision in ("fp32", "int8"):
        with pytest.raises(ToolkitError, match="does not compute the same model"):
            check_peer("other", other, reference, BATCHES, precision)
    assert check_peer("ours", OnnxRuntime(tiny_onnx / "model.onnx", threads=1), reference, BATCHES, "fp32") < 1e-5


def test_what_a_peer_cannot_take_is_told(tmp_path: Path, save_model: Callable[..., Path]) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    settings = {"vocab_size": 160, "dim": 24, "hidden_dim": 48, "n_layers": 1, "n_heads": 4}
    saved = save_model(DistilBertForSequenceClassification(DistilBertConfig(**settings)), tmp_path / "distilbert")
    with pytest.raises(ToolkitError, match="no peer for distilbert"):
        CTranslate2Runtime(saved)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ToolkitError, match="OpenVINO cannot read"):
        OpenVinoRuntime(tmp_path / "broken.onnx")
