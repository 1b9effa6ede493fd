"""Runners give the answers of their models, and each is loaded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from toolkit.benchmarking.comparisons import BenchContext
from toolkit.benchmarking.runners import resolve_device
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import environment


def test_batching_changes_no_answer(context: BenchContext) -> None:
    """What offline and the padded side run gives the logits of one text at a time."""
    runner, model = context.runners.bundle_runner(context.models[0]), context.models[0]
    assert runner is not None
    split, (_, encoder) = context.splits[model.name], context.encoders(model)
    alone = [runner.answer(encoder, text, None)[0] for text in split.texts]
    padded = [runner.answer(encoder, text, None, 32)[0] for text in split.texts]
    np.testing.assert_allclose(alone, padded, atol=1e-4)
    shapes: list[tuple[int, ...]] = []

    class Recording:
        def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
            shapes.append(batch["input_ids"].shape)
            return np.zeros((len(batch["input_ids"]), 2), dtype=np.float32)

    recording = replace(runner, runtime=Recording())
    many = split.texts * 6  # 72 texts: 32, 32 and 8
    recording.answer_all(encoder, many, None)
    recording.answer_all(encoder, many, None, 32)
    assert [shape[0] for shape in shapes] == [32, 32, 8] * 2
    by_length, fixed = [shape[1] for shape in shapes[:3]], [shape[1] for shape in shapes[3:]]
    longest = encoder.encode(split.texts).lengths.max()
    assert longest == by_length[0] > by_length[1] > by_length[2]
    assert fixed == [32] * 3


def test_runners_are_loaded_once_and_copies_are_others(context: BenchContext) -> None:
    cache, model = context.runners, context.models[0]
    assert cache.onnx(model) is cache.claim_runner(model)
    assert cache.onnx(model, copy=True) is not cache.onnx(model)
    assert cache.pytorch(model, "bf16") is not cache.pytorch(model)
    labels = [runner.label for runner in cache.all_runners(context.baseline, [model, model])]
    assert labels == ["3/48/48/4, fp32 ONNX", "3/24/48/4, fp32 ONNX", f"{model.name}, fp32 PyTorch"]
    assert cache.onnx(model).side().runtime == "onnxruntime"


def test_a_machine_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(ToolkitError, match=r"--device cuda: PyTorch .* (is a CPU build|finds no GPU)") as caught:
        resolve_device("cuda")
    assert "--device cpu" in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert environment("cpu")["gpu"] is None
