"""A graph holds operators that exports write, and nothing that loops, branches or reaches out of its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.bundle import graph as module
from toolkit.bundle.graph import check_graph_bytes, check_graph_file
from toolkit.errors import ToolkitError

PATH = Path("model.onnx")
VALUE = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
LOOP = """<ir_version: 8, opset_import: ["" : 17]> model (int64 n, float[N] x) => (float[N] y) {
    on = Constant <value_int = 1> ()
    going = Cast <to = 9> (on)
    y = Loop (n, going, x) <body = step (int64 i, bool g, float[N] a) => (bool k, float[N] b) {
        k = Identity (g)
        b = Add (a, a)
    }>
}"""


def model(*nodes: onnx.NodeProto, **parts: object) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "g", [VALUE], [VALUE], **parts))  # type: ignore[arg-type]


def node(operator: str, domain: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)


def refused(content: bytes, problem: str) -> None:
    with pytest.raises(ToolkitError, match=problem):
        check_graph_bytes(content, PATH)


def test_real_exports_pass(tiny_onnx: Path) -> None:
    check_graph_file(tiny_onnx / "model.onnx")
    check_graph_bytes((tiny_onnx / "model.onnx").read_bytes(), PATH)
    check_graph_bytes(
        model(node("Add"), node("FusedMatMul", "com.microsoft"), node("Relu", "ai.onnx")).SerializeToString(), PATH
    )


@pytest.mark.parametrize(
    ("operator", "domain", "shown"),
    [
        ("Loop", "", "operator Loop "), ("If", "", "operator If "), ("Scan", "", "operator Scan "),
        ("FusedMatMul", "", "operator FusedMatMul "), ("Add", "com.microsoft", "operator com.microsoft.Add "),
        ("Add", "evil", "operator evil.Add "), ("", "", "operator  is not"), ("ImageDecoder", "", "ImageDecoder"),
        ("x" * 10_000, "", "operator x{100} is not"),
    ],
)  # fmt: skip
def test_other_operators_are_refused(operator: str, domain: str, shown: str) -> None:
    refused(model(node("Add"), node(operator, domain)).SerializeToString(), shown)


def test_loops_are_refused_by_their_body_too() -> None:
    parsed = onnx.parser.parse_model(LOOP)
    refused(parsed.SerializeToString(), "a node holds a graph|operator Loop")
    parsed.graph.node[-1].op_type = "Add"
    refused(parsed.SerializeToString(), "a node holds a graph")


def test_a_second_graph_in_the_file_is_checked(tiny_onnx: Path) -> None:
    """Protobuf merges what follows into what stands before, and so does onnxruntime."""
    whole = (tiny_onnx / "model.onnx").read_bytes()
    refused(whole + onnx.ModelProto(graph=onnx.GraphProto(node=[node("Loop")])).SerializeToString(), "operator Loop")
    twice = node("Add").SerializeToString() + onnx.NodeProto(op_type="Loop").SerializeToString()
    merged = onnx.NodeProto.FromString(twice)
    assert merged.op_type == "Loop"
    refused(model(merged).SerializeToString(), "operator Loop")


def test_functions_training_and_sparse_weights_are_refused() -> None:
    function = helper.make_function("d", "F", ["x"], ["y"], [node("Loop")], [helper.make_opsetid("", 17)])
    with_function = model(node("Add"))
    with_function.functions.append(function)
    refused(with_function.SerializeToString(), "functions")
    training = model(node("Add"))
    training.training_info.add()
    training.training_info[0].initialization.node.append(node("Loop"))
    refused(training.SerializeToString(), "training")
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [10**9])
    refused(model(node("Add"), sparse_initializer=[sparse]).SerializeToString(), "sparse weights")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "..", "a/../../b", "deep/data", "..\\up"])
def test_weights_outside_the_folder_are_refused(location: str) -> None:
    weights = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(weights, location)
    refused(model(node("Add"), initializer=[weights]).SerializeToString(), "outside its folder")
    onnx.external_data_helper.set_external_data(weights, "model.onnx_data")
    check_graph_bytes(model(node("Add"), initializer=[weights]).SerializeToString(), PATH)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-3], lambda raw: raw + b"\x3b", lambda raw: raw + b"\x3a\xff", lambda raw: b"\xff" * 99,
               lambda raw: b"", lambda raw: b"ORTMORTM", lambda raw: b"\x08\x08"],
)  # fmt: skip
def test_what_is_no_graph_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = damage(model(node("Add")).SerializeToString())
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ToolkitError, match="is no ONNX graph"):
        check_graph_file(tmp_path / "model.onnx")


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FIELDS", 100)
    check_graph_bytes(model(node("Add")).SerializeToString(), PATH)
    refused(model(*[node("Add")] * 100).SerializeToString(), "more than 100 fields")
