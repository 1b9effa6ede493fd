"""Rewritten float32 graphs: the same answers with less work for every family, and unknown graphs left alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import transformers
from onnx import TensorProto, helper, numpy_helper

from export.graph.optimizations import prune_to_first_token, tokens_first
from export.onnx_export import check_graph, export_fp32, load_classifier
from tests.support.families import FAMILIES, padded_batch, save_family
from toolkit.inference.runtimes import OnnxRuntime

# DistilBERT of transformers 4 scales queries instead of scores, and its mask is spread over all scores
SPREAD = ("DistilBert",) if transformers.__version__.startswith("4.") else ()
MOVED = tuple(family for family in FAMILIES if family not in SPREAD)  # whose attention is put together the same way


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """plain.onnx, first.onnx and moved.onnx of a model with two layers."""
    folder = tmp_path_factory.mktemp(request.param)
    export_fp32(load_classifier(save_family(request.param, folder / "model")), folder / "plain.onnx")
    first = prune_to_first_token(onnx.load(folder / "plain.onnx"))
    onnx.save(first, folder / "first.onnx")
    onnx.save(tokens_first(first), folder / "moved.onnx")
    return request.param, folder


def test_the_answers_stay(family: tuple[str, Path]) -> None:
    _, folder = family
    plain, *rewritten = (OnnxRuntime(folder / f"{name}.onnx", threads=1) for name in ("plain", "first", "moved"))
    for rows, length in ((1, 3), (5, 17), (3, 64), (16, 9)):
        batch = padded_batch(rows, length)
        expected = plain.run(batch)
        for runtime in rewritten:
            np.testing.assert_allclose(runtime.run(batch), expected, atol=1e-6)


def test_the_last_layer_works_on_one_token(family: tuple[str, Path]) -> None:
    """Tensors of 1, not 11 tokens: of the last layer all but keys and values, of the first layer none."""
    name, folder = family
    check_graph(folder / "first.onnx")
    model = onnx.load(folder / "first.onnx")
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    linear = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    model.graph.output.extend(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in linear)
    onnx.save(model, folder / "watched.onnx")
    runtime = OnnxRuntime(folder / "watched.onnx", threads=1)
    feed = {key: values for key, values in padded_batch(2, 11).items() if key in runtime.inputs}
    outputs = runtime.session.run([node.output[0] for node in linear], feed)
    tokens = Counter(values.shape[1] for values in outputs)
    layers = 2 * 6 + (name == "Electra")  # which has one more, behind its embeddings
    cut = 3 if name in SPREAD else 4  # all queries are needed where the mask is spread over all scores
    assert tokens == {11: layers - cut, 1: cut}


def test_transpositions_fall_away(family: tuple[str, Path]) -> None:
    name, folder = family
    count = {
        file: Counter(node.op_type for node in onnx.load(folder / f"{file}.onnx").graph.node)
        for file in ("first", "moved")
    }
    if name not in MOVED:
        assert count["moved"] == count["first"]
        return
    assert count["moved"]["FusedMatMul"] == 2 * 2
    assert count["first"]["Transpose"] == 2 * 4
    tables = 2 if name in ("MPNet", "DistilBert") else 3  # two without token types
    assert count["moved"]["Transpose"] == 2 * 1 + tables  # of contexts; of the ids of each table
    assert count["moved"]["Div"] == 0  # scores come scaled


def graph(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """input_ids [B, L] through a table of 3 rows to x [B, L, 2], and on to the logits."""
    table = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x"], name="/embed/Gather"), *nodes]
    initializers = [numpy_helper.from_array(value, key) for key, value in ({"table": table} | constants).items()]
    made = helper.make_graph(nodes, "graph", [ids], [out], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("mixing", ["CumSum", "LayerNormalization", "Add"])
def test_what_mixes_tokens_sees_all_of_them(mixing: str, tmp_path: Path) -> None:
    """A sum over tokens, a layer norm over tokens, and an addition of what another reader needs whole."""
    zero, ones = np.array(0), np.ones((1, 1), dtype=np.float32)
    node = {
        "CumSum": helper.make_node("CumSum", ["x", "unit"], ["y"], name="/mix", reverse=1),
        "LayerNormalization": helper.make_node("LayerNormalization", ["x", "ones"], ["y"], name="/mix", axis=1),
        "Add": helper.make_node("Add", ["x", "x"], ["y"], name="/mix"),
    }[mixing]
    nodes = [
        node, helper.make_node("Tanh", ["y"], ["z"], name="/tanh"),
        helper.make_node("Gather", ["z", "zero"], ["first"], name="/first", axis=1),
    ]  # fmt: skip
    if mixing == "Add":
        nodes += [
            helper.make_node("ReduceSum", ["y", "axis"], ["all"], name="/all", keepdims=0),
            helper.make_node("Add", ["first", "all"], ["logits"], name="/out"),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["first"], ["logits"], name="/out"))
    constants = {"zero": zero, "unit": np.array(1), "axis": np.array([1]), "ones": ones}
    read = {name for reader in nodes for name in reader.input}
    model = graph(nodes, {name: value for name, value in constants.items() if name in read})
    cut = prune_to_first_token(model)
    assert [node.op_type for node in cut.graph.node].count("Slice") == 1  # behind what mixes, before Tanh
    assert tokens_first(cut) is cut  # no BERT
    onnx.save(model, tmp_path / "plain.onnx")
    onnx.save(cut, tmp_path / "cut.onnx")
    ids = np.array([[0, 1, 2, 2], [2, 0, 1, 0]])
    expected, pruned = (
        OnnxRuntime(tmp_path / f"{key}.onnx", threads=1).run({"input_ids": ids}) for key in ("plain", "cut")
    )
    np.testing.assert_allclose(pruned, expected, atol=1e-6)
