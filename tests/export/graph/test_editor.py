"""The editor of ONNX graphs: constants, shapes and readers of a graph written by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.graph.editor import GraphEditor, attribute, layer_name

WEIGHT = np.array([[1, 2], [3, 4]], dtype=np.float32)


def model(allow_zero: bool = False) -> onnx.ModelProto:
    """y = (x W) W + 1 through a shared weight and a Constant, reshaped to the computed shape (B, L, 1, 2)."""
    nodes = [
        helper.make_node("Identity", ["w"], ["w_shared"], name="/share"),
        helper.make_node("Constant", [], ["bias"], name="/bias", value=numpy_helper.from_array(np.float32(1), "b")),
        helper.make_node("MatMul", ["x", "w"], ["first"], name="/model/first/MatMul"),
        helper.make_node("MatMul", ["first", "w_shared"], ["second"], name="/model/second/MatMul"),
        helper.make_node("Add", ["second", "bias"], ["sum"], name="/model/second/Add"),
        helper.make_node("Shape", ["x"], ["shape"], name="/shape"),
    ]
    for axis in (0, 1):
        nodes += [
            helper.make_node("Gather", ["shape", f"index_{axis}"], [f"size_{axis}"], name=f"/gather_{axis}"),
            helper.make_node("Unsqueeze", [f"size_{axis}", "index_0"], [f"axis_{axis}"], name=f"/unsqueeze_{axis}"),
        ]
    nodes += [
        helper.make_node("Concat", ["axis_0", "axis_1", "tail"], ["target"], name="/target", axis=0),
        helper.make_node("Reshape", ["sum", "target"], ["y"], name="/reshape", allowzero=int(allow_zero)),
        helper.make_node("Tanh", ["sum"], ["unused"], name="/unused"),
    ]
    constants = {"w": WEIGHT, "index_0": np.array(0), "index_1": np.array(1), "tail": np.array([1, 2])}
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "L", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "L", 1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_constants_are_taken_out_of_nodes() -> None:
    editor = GraphEditor(model())
    assert {"Identity", "Constant"}.isdisjoint(node.op_type for node in editor.source_nodes)
    assert editor.array("bias").item() == 1.0
    assert [node.name for node in editor.readers["w"]] == ["/model/first/MatMul", "/model/second/MatMul"]
    assert editor.producer["second"].name == "/model/second/MatMul"
    assert editor.is_matrix("w")
    assert not any(map(editor.is_matrix, ("bias", "index_0", "x")))  # a scalar, integers, an input


@pytest.mark.parametrize("allow_zero", [False, True])
def test_the_new_graph_gives_the_same_without_unused_nodes(allow_zero: bool) -> None:
    source = model(allow_zero)
    editor = GraphEditor(source)
    editor.nodes = list(editor.source_nodes)
    built = editor.build(opset=20, ir_version=10)
    assert [node.op_type for node in built.graph.node] == ["MatMul", "MatMul", "Add", "Reshape"]
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in built.graph.initializer}
    assert shapes["shape_0_0_1_2"].tolist() == [0, 0, 1, 2]
    assert set(shapes) == {"w", "bias", "shape_0_0_1_2"}
    for batch, length in ((1, 3), (2, 5)):
        x = np.random.default_rng(batch).normal(size=(batch, length, 2)).astype(np.float32)
        (expected,), (answer,) = (ReferenceEvaluator(graph).run(None, {"x": x}) for graph in (source, built))
        assert answer.shape == (batch, length, 1, 2)
        np.testing.assert_array_equal(answer, expected)
        np.testing.assert_allclose(answer[:, :, 0], x @ WEIGHT @ WEIGHT + 1, rtol=1e-5)


def test_a_shape_in_another_order_is_left_alone() -> None:
    swapped = model()
    concat = next(node for node in swapped.graph.node if node.op_type == "Concat")
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]
    editor = GraphEditor(swapped)
    assert next(node for node in editor.source_nodes if node.op_type == "Reshape").input[1] == "target"


def test_nodes_and_constants_are_added_once() -> None:
    editor = GraphEditor(model())
    assert editor.constant("w", np.zeros(3)) == "w"
    np.testing.assert_array_equal(editor.array("w"), WEIGHT)  # the first value of a name stays
    assert editor.add("FusedMatMul", ["x", "w"], "product", alpha=0.5) == "product"
    (node,) = editor.nodes
    assert (node.domain, node.name, attribute(node, "alpha", 1.0), attribute(node, "transA", 0)) == (
        "com.microsoft", "product", 0.5, 0,
    )  # fmt: skip
    editor.add("Tanh", ["product"], "tanh")
    assert editor.nodes[1].domain == ""


def test_the_module_of_a_node() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["c"], name="/bert/encoder/layer.0/attention/self/query/MatMul")
    assert layer_name(node) == "bert.encoder.layer.0.attention.self.query"
