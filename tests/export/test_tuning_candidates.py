"""Candidate graphs: which there are for which calibration, and rewritten layers against those they replace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.embeddings import LowBitSettings
from export.int8.quantize import IR_VERSION, OPSET
from export.onnx_export import LayerCount
from export.tuning_candidates import TuningInputs, all_candidates, fuse_qkv, heads_and_hidden
from toolkit.data.tokenization import EncodedTexts

NONE = np.empty(0, dtype=np.int64)
FEW_BITS = LowBitSettings(4, np.eye(4), NONE, NONE)
TEXTS = EncodedTexts(ids=[NONE], type_ids=[NONE], truncated=np.zeros(1, bool), pad_id=0)


@pytest.mark.parametrize(("calibrated", "words", "names"), [
    (True, None, {
        "int8, one scale a token", "int8, fixed scales", "int8, packed QKV",
        "onnxruntime dynamic int8", "onnxruntime static QDQ", "fp32", "fp32, fused",
    }),
    (False, None, {
        "int8, one scale a token", "onnxruntime dynamic int8", "fp32", "fp32, fused",
    }),
    (True, FEW_BITS, {"int8, one scale a token", "int8, fixed scales", "int8, packed QKV"}),
    (False, FEW_BITS, {"int8, one scale a token"}),
])  # fmt: skip
def test_candidates_depend_on_calibration_and_bits(
    calibrated: bool, words: LowBitSettings | None, names: set[str]
) -> None:
    calibration, encoded = ({}, TEXTS) if calibrated else (None, None)
    inputs = TuningInputs(Path("fp32.onnx"), LayerCount(1, 1), calibration, words, encoded, NONE, heads=4, hidden=24)
    candidates = all_candidates(inputs)
    assert {candidate.name for candidate in candidates} == names
    assert all((candidate.precision == "fp32") == candidate.name.startswith("fp32") for candidate in candidates)


def run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: list[str]) -> onnx.ModelProto:
    """A graph of x [B, L, 40]."""
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "L", 40])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def test_three_products_become_one() -> None:
    random = np.random.default_rng(0)
    widths = {"q": 8, "k": 8, "v": 16}
    constants: dict[str, np.ndarray] = {"scale": np.float32(0.1), "zero": np.uint8(128), "axis": np.array([-1])}
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["integers"], name="integers")]
    for name, width in widths.items():
        constants |= {
            f"{name}_w": random.integers(-63, 64, (40, width), dtype=np.int8),
            f"{name}_s": random.uniform(0.01, 0.1, width).astype(np.float32),
            f"{name}_b": random.normal(size=width).astype(np.float32),
        }
        inputs = ["integers", f"{name}_w", "scale", f"{name}_s", "zero", "", f"{name}_b"]
        nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [name], name=name, domain="com.microsoft"))
    plain = model(nodes, constants, list(widths))
    fused = fuse_qkv(plain)
    kinds = [node.op_type for node in fused.graph.node]
    assert kinds == ["QuantizeLinear", "MatMulIntegerToFloat", "Split"]
    x = random.normal(size=(2, 5, 40)).astype(np.float32)
    expected, answers = run(plain, x), run(fused, x)
    for name, width in widths.items():
        assert answers[name].shape == (2, 5, width)
        np.testing.assert_allclose(answers[name], expected[name], rtol=1e-6, atol=1e-6)


def test_a_single_product_is_left_alone() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["integers"], name="integers"),
        helper.make_node(
            "MatMulIntegerToFloat", ["integers", "w", "scale", "s", "zero"], ["y"], name="y", domain="com.microsoft"
        ),
    ]
    constants = {
        "scale": np.float32(0.1), "zero": np.uint8(128), "w": np.ones((40, 2), np.int8), "s": np.ones(2, np.float32),
    }  # fmt: skip
    assert [node.op_type for node in fuse_qkv(model(nodes, constants, ["y"])).graph.node] == [
        "QuantizeLinear", "MatMulIntegerToFloat",
    ]  # fmt: skip


def test_heads_and_hidden_by_the_names_of_families() -> None:
    assert heads_and_hidden(SimpleNamespace(num_attention_heads=12, hidden_size=312)) == (12, 312)
    assert heads_and_hidden(SimpleNamespace(n_heads=4, dim=24)) == (4, 24)
