"""Runtimes give the model's own logits, row by row, and refuse devices and files that they cannot use."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import keep_stored_types
from tests.support.training import encoded
from toolkit.data.tokenization import Batch
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime, batched_logits, memory_limit


def test_the_model_is_in_eval_mode_and_keeps_no_gradients(tiny_bert: Callable[..., object]) -> None:
    model = tiny_bert(hidden_dropout_prob=0.5)
    model.train()  # type: ignore[attr-defined]
    runtime = TorchRuntime(model)
    batch = {name: np.ones((2, 6), dtype=np.int64) for name in ("input_ids", "attention_mask")}
    np.testing.assert_array_equal(runtime.run(batch), runtime.run(batch))


def test_inputs_that_a_model_does_not_take_are_left_out(tokenizer: object) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=160, dim=24, n_layers=1, n_heads=4, hidden_dim=48)
    runtime = TorchRuntime(DistilBertForSequenceClassification(config))
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert runtime.run({name: np.ones((2, 6), dtype=np.int64) for name in names}).shape == (2, 2)


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ToolkitError, match=r"model\.onnx is no ONNX graph"):
        OnnxRuntime(tmp_path / "model.onnx", threads=1)


def test_a_device_that_is_not_there_is_refused_in_words(tiny_student: Path, tmp_path: Path) -> None:
    import onnxruntime
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ToolkitError, match="no CUDA device") as caught:
            open_predictor(tiny_student, device="cuda")
        assert caught.value.fix == "--device cpu"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ToolkitError, match="no CUDAExecutionProvider"):
            OnnxRuntime(tmp_path / "model.onnx", device="cuda")


def test_threads_reach_pytorch(tiny_student: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        open_predictor(tiny_student, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


class FirstToken:
    """Gives the first token of each row as its logit, and notes the shapes of its batches."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: Batch) -> np.ndarray:
        self.shapes.append(batch["input_ids"].shape)
        return batch["input_ids"][:, :1].astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_logits_stand_in_the_order_of_their_inputs(batch_size: int) -> None:
    inputs, runtime = encoded(20), FirstToken()
    logits = batched_logits(runtime, inputs, batch_size)
    assert logits.dtype == np.float32
    assert logits[:, 0].tolist() == [ids[0] for ids in inputs.ids]
    rows, lengths = zip(*runtime.shapes, strict=True)
    assert sum(rows) == 20
    assert max(rows) == min(batch_size, 20)
    assert list(lengths) == sorted(lengths, reverse=True)  # memory peaks at the start


def test_both_runtimes_give_the_same_logits(tiny_student: Path, tiny_onnx: Path) -> None:
    batch = encoded(6, seed=4).batch(range(6))
    torch_logits, onnx_logits = (open_predictor(path).runtime.run(batch) for path in (tiny_student, tiny_onnx))
    np.testing.assert_allclose(onnx_logits, torch_logits, atol=1e-4)
    assert torch_logits.std() > 0.1


def test_weights_of_half_precision_are_run_in_float32(
    tiny_bert: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    keep_stored_types(monkeypatch)
    tiny_bert().half().save_pretrained(tmp_path)
    assert TorchRuntime.load(tmp_path).model.dtype == torch.float32


def test_weights_that_cannot_be_read_are_an_error_in_words(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(ToolkitError, match=r"PyTorch cannot load .*copy"):
        TorchRuntime.load(copy)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is taken")
def test_memory_limits_end_in_any_order() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    first, second = memory_limit(2**40), memory_limit(2**41)
    first.__enter__()
    low = resource.getrlimit(resource.RLIMIT_AS)[0]
    second.__enter__()
    high = resource.getrlimit(resource.RLIMIT_AS)[0]
    assert 2**40 < low < high
    first.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == high
    second.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    with memory_limit(2**28), pytest.raises(MemoryError):
        np.ones(2**30)
