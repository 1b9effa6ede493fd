"""Quantized activations: integers, scales and zero points of small graphs, worked by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.editor import GraphEditor
from export.int8.activations import Activation, Activations
from export.int8.quantize import IR_VERSION, OPSET

GAMMA, BETA = np.array([2, 1, 1, 1], dtype=np.float32), np.array([0, 0, 0, 5], dtype=np.float32)
WEIGHTS = [np.ones((4, 3), dtype=np.float32)]


def editor_of(operator: str) -> GraphEditor:
    """x [B, L, 4] through one operator to y."""
    if operator == "LayerNormalization":
        node = helper.make_node(operator, ["x", "gamma", "beta"], ["y"], name="/y", axis=-1, epsilon=1e-5)
    else:
        node = helper.make_node(operator, ["x"], ["y"], name="/y")
    graph = helper.make_graph(
        [node], "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "L", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "L", 4])],
        [numpy_helper.from_array(GAMMA, "gamma"), numpy_helper.from_array(BETA, "beta")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", OPSET)]
    editor = GraphEditor(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION))
    editor.nodes = list(editor.source_nodes)
    return editor


def run(editor: GraphEditor, x: np.ndarray, *names: str) -> list[np.ndarray]:
    """The values of tensors of the new graph."""
    import onnxruntime

    graph = onnx.GraphProto()
    graph.CopyFrom(editor.graph)
    model = helper.make_model(
        helper.make_graph(
            editor.nodes, "graph", editor.graph.input, [onnx.ValueInfoProto(name=name) for name in names],
            list(editor.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), {"x": x.astype(np.float32)}))


def parts(editor: GraphEditor, activation: Activation) -> tuple[int, float]:
    return int(editor.array(activation.zero_point)), float(editor.array(activation.scale))


def test_without_calibration_each_token_has_its_scale() -> None:
    editor = editor_of("Identity")
    activation = Activations(editor, None).quantize("y", 3, WEIGHTS)
    assert parts(editor, activation) == (128, 1.0)
    assert activation.token_scale is not None
    x = np.array([[[127.0, -1, 0, 0], [0, 0, -254.0, 2]]])
    integers, scales = run(editor, x, activation.integers, activation.token_scale)
    assert scales[0, :, 0] == pytest.approx([1.0, 2.0])
    assert integers[0].tolist() == [[255, 127, 128, 128], [128, 128, 1, 129]]


@pytest.mark.parametrize(("operator", "calibrated", "zero_point"), [
    ("Relu", False, 128), ("Relu", True, 0), ("Gelu", False, 128), ("Gelu", True, 32),
])  # fmt: skip
def test_behind_an_activation_function_calibration_moves_the_zero_point(
    operator: str, calibrated: bool, zero_point: int
) -> None:
    editor = editor_of(operator)
    values = np.array([[0.0, 2.23, 1.0, 0.5], [0.0, 0.0, 4.46, 1.0]], dtype=np.float32)
    activation = Activations(editor, {"y": values} if calibrated else None).quantize("y", 3, WEIGHTS)
    assert parts(editor, activation) == (zero_point, 1.0)
    assert activation.token_scale is not None
    x = np.array([[[8.0, 4.0, -0.75, -9.0], [0.5, 0.25, 0.0, -0.75]]])
    y, integers, scales = run(editor, x, "y", activation.integers, activation.token_scale)
    levels = 127 if zero_point == 128 else 255 - zero_point
    assert scales[0, 0, 0] == pytest.approx(8 / levels)
    restored = (integers.astype(np.float32) - zero_point) * scales
    assert np.abs(restored - y).max() <= 0.501 * scales.max()
    assert integers.max() == 255
    if calibrated:
        assert activation.exact is values
        assert activation.dequantized is not None
        assert np.abs(activation.dequantized - values).max() <= 0.501 * 4.46 / levels


def test_behind_a_layer_norm_channels_are_centred_and_divided() -> None:
    editor = editor_of("LayerNormalization")
    values = np.array([[4.0, 1, 1, 6], [-4.0, -1, -1, 4]], dtype=np.float32)
    activations = Activations(editor, {"y": values})
    activation = activations.quantize("y", 3, WEIGHTS)
    assert activations.quantize("y", 3, WEIGHTS) is activation  # once for all readers
    assert activation.token_scale is None
    assert activation.smoothing is not None
    assert activation.smoothing.centre.tolist() == [0, 0, 0, 5]
    assert activation.smooth is not None
    restored = activations.restore("y")
    biased = activations.with_bias("y", np.array([1, 2, 3, 4]))
    assert restored is not None
    assert biased is not None
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    y, smooth, product, sums = run(editor, x, "y", activation.smooth, restored[0], biased)
    np.testing.assert_allclose(smooth * activation.smoothing.divisor + activation.smoothing.centre, y, atol=1e-5)
    np.testing.assert_allclose(product + restored[1], y, atol=1e-5)
    np.testing.assert_allclose(sums, y + np.arange(1, 5), atol=1e-5)


def test_only_a_calibrated_layer_norm_takes_a_bias_or_is_restored() -> None:
    for operator, calibration in (("Identity", {"y": np.ones((2, 4), np.float32)}), ("LayerNormalization", None)):
        activations = Activations(editor_of(operator), calibration)
        activations.quantize("y", 3, WEIGHTS)
        assert activations.restore("y") is None
        assert activations.with_bias("y", np.ones(4)) is None


def test_the_first_token_shares_the_integers_of_all() -> None:
    editor = editor_of("Relu")
    cut = helper.make_node("Gather", ["y", "zero"], ["first"], name="/first", axis=1)
    editor.constant("zero", np.array(0))
    editor.nodes.append(cut)
    editor.producer["first"] = cut
    activations = Activations(editor, None)
    assert activations.all_tokens("first") == "y"
    whole, first = activations.quantize("y", 3, WEIGHTS), activations.quantize("first", 2, WEIGHTS)
    assert [node.op_type for node in editor.nodes].count("QuantizeLinear") == 2  # the integers, and their zero points
    assert whole.token_scale is not None
    assert first.token_scale is not None
    x = np.array([[[8.0, 4, 2, 1], [1.0, 2, 3, 4]]])
    all_integers, integers, scales = run(editor, x, whole.integers, first.integers, first.token_scale)
    assert integers.tolist() == all_integers[:, 0].tolist()
    assert scales[0, 0] == pytest.approx(8 / 127)
