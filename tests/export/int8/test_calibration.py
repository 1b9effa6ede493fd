"""Calibration: which values are collected, fixed scales by hand, and graphs that do not depend on neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.int8.calibration import Smoothing, choose_rows, collect_inputs, dequantized
from export.int8.quantize import linear_inputs, quantize_graph
from export.onnx_export import check_graph, count_layers, export_fp32, load_classifier, save_graph
from tests.support.data import rows
from tests.support.families import neighbour_difference
from toolkit.data.tokenization import TextEncoder
from toolkit.inference.runtimes import OnnxRuntime

finite = st.floats(-100, 100, width=32)


@pytest.fixture(scope="module")
def calibrated(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx and int8.onnx, calibrated on sentences that no other test uses."""
    folder = tmp_path_factory.mktemp("calibrated")
    model = load_classifier(tiny_student)
    export_fp32(model, folder / "fp32.onnx")
    graph = onnx.load(folder / "fp32.onnx")
    encoded = TextEncoder(tiny_student, 32).encode([text for text, _ in rows(200, seed=5)])
    inputs = collect_inputs(folder / "fp32.onnx", linear_inputs(graph), encoded, np.arange(len(encoded)))
    quantized, record = quantize_graph(graph, count_layers(model), inputs)
    save_graph(quantized, folder / "int8.onnx")
    assert record.calibrated
    assert all(layer["max_int16"] <= 32767 for layer in record.linear.values())
    assert max(layer["max_weight"] for layer in record.linear.values()) > 63
    return folder


def test_rows_hold_enough_tokens_and_no_more_than_needed() -> None:
    lengths = np.full(5000, 10)
    chosen = choose_rows(lengths, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == 820  # 8,192 tokens
    assert choose_rows(lengths, seed=0).tolist() == chosen.tolist() != choose_rows(lengths, seed=1).tolist()
    assert sorted(choose_rows(np.array([3, 4]), seed=0).tolist()) == [0, 1]


def test_only_real_tokens_are_seen(tiny_student: Path, tmp_path: Path) -> None:
    import torch

    model = load_classifier(tiny_student)
    export_fp32(model, tmp_path / "fp32.onnx")
    encoded = TextEncoder(tiny_student, 32).encode(["good", "a very dull film and a bad plot", "the story was warm"])
    names = linear_inputs(onnx.load(tmp_path / "fp32.onnx"))
    # query, key and value read one tensor; the pooler reads one whose other tokens are collected too
    assert len(names) == 4 * 3 + 1
    inputs = collect_inputs(tmp_path / "fp32.onnx", names, encoded, np.array([2, 0]))
    expected = []
    for row in (2, 0):  # longest first
        ids = torch.from_numpy(encoded.ids[row])[None]
        expected.append(model.bert.embeddings(ids)[0].detach().numpy())
    np.testing.assert_allclose(inputs[names[0]], np.concatenate(expected), atol=1e-5)
    assert {len(values) for values in inputs.values()} == {len(encoded.ids[2]) + len(encoded.ids[0])}


def test_smoothing_by_hand() -> None:
    inputs = np.array([[9.0, 1.0], [11.0, -1.0]], dtype=np.float32)
    smoothing = Smoothing.of(inputs, [np.ones((2, 3), dtype=np.float32)])
    assert smoothing.centre.tolist() == [10, 0]
    assert smoothing.divisor == pytest.approx([1, 1])  # one spread, one strength
    assert smoothing.scale == pytest.approx(1 / 127)
    wide = Smoothing.of(inputs * [1, 16], [np.array([[1.0], [1 / 16]], dtype=np.float32)])
    assert wide.divisor[1] / wide.divisor[0] == pytest.approx(16)  # all of it where the weights make room for it
    assert dequantized(np.array([1.04, -9.0, 30.0]), np.float32(0.1)) == pytest.approx([1.0, -9.0, 12.7])
    assert dequantized(np.array([1.04, -9.0, 30.0]), np.float32(0.1), 32) == pytest.approx([1.0, -3.2, 22.3])


@given(hnp.arrays(np.float32, (7, 4), elements=finite), hnp.arrays(np.float32, (4, 3), elements=finite))
def test_calibration_values_fit_and_come_back(inputs: np.ndarray, weight: np.ndarray) -> None:
    smoothing = Smoothing.of(inputs, [weight])
    smooth = smoothing.apply(inputs)
    assert np.abs(smooth).max() <= 127 * smoothing.scale * 1.001
    np.testing.assert_allclose(smooth * smoothing.divisor + smoothing.centre, inputs, rtol=1e-3, atol=1e-3)
    assert np.abs(dequantized(smooth, smoothing.scale) - smooth).max() <= smoothing.scale * 0.501


def test_what_is_calibrated(calibrated: Path) -> None:
    check_graph(calibrated / "int8.onnx")
    nodes = onnx.load(calibrated / "int8.onnx").graph.node
    count = {kind: sum(node.op_type == kind for node in nodes) for kind in {node.op_type for node in nodes}}
    layers = 3
    assert count["MatMulIntegerToFloat"] == 6 * layers + 1
    assert count["QuantizeLinear"] == 4 * layers + 1 + layers  # and zero points of tokens behind GELU
    # each once, for what quantized layers read, and the one before the feed-forward network again, for the residual
    assert count["LayerNormalization"] == 1 + 2 * layers + layers
    assert count["ReduceMax"] == layers  # behind GELU
    assert "ReduceMin" not in count
    assert "Shape" not in {node.op_type for node in nodes if "layer." in node.name}


def test_it_is_close_to_fp32_on_other_sentences(calibrated: Path, tiny_student: Path) -> None:
    encoded = TextEncoder(tiny_student, 32).encode([text for text, _ in rows(64, seed=6)])
    batch = encoded.batch(range(64))
    fp32, int8 = (OnnxRuntime(calibrated / f"{name}.onnx", threads=1).run(batch) for name in ("fp32", "int8"))
    assert 0 < np.abs(int8 - fp32).mean() < 0.1 * fp32.std(axis=0).mean()


@pytest.fixture(scope="module")
def session(calibrated: Path) -> Callable[[], OnnxRuntime]:
    runtime = OnnxRuntime(calibrated / "int8.onnx", threads=1)
    return lambda: runtime


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), neighbours=st.integers(0, 6), padding=st.integers(0, 30))
def test_neighbours_and_padding_change_nothing(
    session: Callable[[], OnnxRuntime], seed: int, neighbours: int, padding: int
) -> None:
    assert neighbour_difference(session(), seed, neighbours, padding) <= 1e-5
