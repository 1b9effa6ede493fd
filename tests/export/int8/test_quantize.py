"""int8 graphs: scales worked by hand, no saturation, no dependence on neighbours; onnxruntime's own int8 as control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.int8 import quantize
from export.int8.calibration import collect_inputs
from export.int8.quantize import linear_inputs, quantize_graph
from export.onnx_export import LayerCount, check_graph, count_layers, export_fp32, load_classifier, save_graph
from tests.support.exporting import export_loosely
from tests.support.families import FAMILIES, neighbour_difference, padded_batch, save_family
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.runtimes import OnnxRuntime

finite = st.floats(-100, 100, width=32)


@pytest.fixture(scope="module")
def graphs(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx, int8.onnx (ours) and stock.onnx (onnxruntime's quantize_dynamic as it comes) of one tiny model."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path_factory.mktemp("graphs")
    model = load_classifier(tiny_student)
    export_fp32(model, folder / "fp32.onnx")
    quantized, _ = quantize_graph(onnx.load(folder / "fp32.onnx"), count_layers(model))
    save_graph(quantized, folder / "int8.onnx")
    quantize_dynamic(folder / "fp32.onnx", folder / "stock.onnx", weight_type=QuantType.QInt8)
    return folder


def tiny_graph(weight: np.ndarray) -> onnx.ModelProto:
    """input_ids [B, L] through an embedding, a linear layer and a sum: K = 4. Scales of rows are 0, 1, 2 and 100, which
    half precision holds."""
    table = 127 * np.array([[0, 0, 0, 0], [1, 0, 0, 1], [-2, 0, 0, 1], [100, 0, 50, 0]], dtype=np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="/embed/Gather"),
        helper.make_node("MatMul", ["x", "weight"], ["y"], name="/linear/MatMul"),
        helper.make_node("ReduceSum", ["y", "axis"], ["logits"], name="/sum/ReduceSum", keepdims=0),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", weight.shape[1]])
    constants = {"table": table, "weight": weight, "axis": np.array([1], dtype=np.int64)}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", ids, [out], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_one_layer_worked_by_hand(tmp_path: Path) -> None:
    weight = np.array([[0.63, -1.26], [0, 0], [0.63, 0], [0.1, 0.2]], dtype=np.float32)
    quantized, record = quantize_graph(tiny_graph(weight), LayerCount(linear=2, embedding=1))
    save_graph(quantized, tmp_path / "model.onnx")
    assert list(record.linear) == ["linear"]
    assert record.embedding == {"embed": {"rows": 4, "bits": 8}}
    runtime = OnnxRuntime(tmp_path / "model.onnx", threads=1)

    def run(*ids: int) -> list[float]:
        shape = np.array([ids], dtype=np.int64)
        return [float(value) for value in runtime.run({"input_ids": shape, "attention_mask": shape})[0]]

    # channel 0: scale 0.01, q = [63, 0, 63, 10]; channel 1: scale 0.02, q = [-63, 0, 0, 10]
    assert run(0) == [0.0, 0.0]  # a row of zeros has no scale
    # token 1 is 127 [1, 0, 0, 1]: scale 1, q = [127, 0, 0, 127]; 127 * 73 * 0.01 and 127 * -53 * 0.02
    assert run(1) == pytest.approx([92.71, -134.62], rel=1e-6)
    # token 2 is 127 [-2, 0, 0, 1] and 1 / 2 of its largest: 63.5 rounds to 64; (-127 * 63 + 64 * 10) * 2 * 0.01
    assert run(2) == pytest.approx([(-8001 + 640) * 0.02, (8001 + 640) * 0.04], rel=1e-6)
    assert run(1, 3) == pytest.approx(list(np.add(run(1), run(3))), rel=1e-6)  # a large neighbour takes no precision


def test_what_is_quantized(graphs: Path, tiny_student: Path) -> None:
    model = onnx.load(graphs / "int8.onnx")
    check_graph(graphs / "int8.onnx")
    count = {
        kind: sum(node.op_type == kind for node in model.graph.node) for kind in {n.op_type for n in model.graph.node}
    }
    layers = 3
    assert count["MatMulIntegerToFloat"] == 6 * layers + 1  # query, key, value, output, two of the FFN; the pooler
    # query, key and value read one quantization; each has its tokens' zero points from another, of their scales
    assert count["QuantizeLinear"] == 2 * (4 * layers + 1)
    assert count["FusedMatMul"] == 2 * layers  # scores and context: two activations
    assert "MatMul" not in count
    assert count["Gemm"] == 1  # gives the logits
    matrices = [
        tensor
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and not tensor.name.startswith("classifier")
    ]
    kinds = {tensor.data_type for tensor in matrices}
    assert kinds == {TensorProto.INT8, TensorProto.FLOAT16, TensorProto.INT64}  # the last are positions
    halves = [tensor for tensor in matrices if tensor.data_type == TensorProto.FLOAT16]
    assert [tuple(tensor.dims)[1] for tensor in halves] == [1, 1, 1]  # scales of the rows of three tables
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMulIntegerToFloat":
            assert np.abs(numpy_helper.to_array(weights[node.input[1]]).astype(int)).max() == 63


@pytest.mark.parametrize("wrong", [{"linear": 19}, {"linear": 21}, {"embedding": 2}])
def test_a_layer_too_few_or_too_many_is_an_error(graphs: Path, tiny_student: Path, wrong: dict[str, int]) -> None:
    expected = count_layers(load_classifier(tiny_student))
    assert expected == LayerCount(linear=20, embedding=3)
    with pytest.raises(ToolkitError, match=r"linear layers and \d embedding tables, its graph 20 and 3"):
        quantize_graph(onnx.load(graphs / "fp32.onnx"), replace(expected, **wrong))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "Bert"])
def test_every_family_quantizes(family: str, tmp_path: Path) -> None:
    model = load_classifier(save_family(family, tmp_path / "model"))
    export_fp32(model, tmp_path / "fp32.onnx")
    quantized, record = quantize_graph(onnx.load(tmp_path / "fp32.onnx"), count_layers(model))
    save_graph(quantized, tmp_path / "int8.onnx")
    check_graph(tmp_path / "int8.onnx")
    assert len(record.linear) == FAMILIES[family][1].linear - 1
    batch = padded_batch(4, 12)
    fp32 = OnnxRuntime(tmp_path / "fp32.onnx", threads=1).run(batch)
    int8 = OnnxRuntime(tmp_path / "int8.onnx", threads=1).run(batch)
    assert 0 < np.abs(fp32 - int8).max() < 0.1 * np.abs(fp32).max()


@pytest.fixture(scope="module")
def sessions(graphs: Path) -> Callable[[str], OnnxRuntime]:
    loaded = {name: OnnxRuntime(graphs / f"{name}.onnx", threads=1) for name in ("int8", "stock")}
    return loaded.__getitem__


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), neighbours=st.integers(0, 6), padding=st.integers(0, 30))
def test_neighbours_and_padding_change_nothing(
    sessions: Callable[[str], OnnxRuntime], seed: int, neighbours: int, padding: int
) -> None:
    assert neighbour_difference(sessions("int8"), seed, neighbours, padding) <= 1e-5


def test_the_stock_graph_fails_the_same_check(sessions: Callable[[str], OnnxRuntime]) -> None:
    differences = [neighbour_difference(sessions("stock"), seed, neighbours=5, padding=10) for seed in range(10)]
    assert min(differences) > 1e-5
    assert max(differences) > 1e-3


def test_int8_is_close_to_fp32_and_smaller(graphs: Path) -> None:
    batch = padded_batch(32, 24)
    fp32, ours = (OnnxRuntime(graphs / f"{name}.onnx", threads=1).run(batch) for name in ("fp32", "int8"))
    assert 0 < np.abs(ours - fp32).mean() < 0.1 * fp32.std(axis=0).mean()
    assert (graphs / "int8.onnx").stat().st_size < 0.75 * (graphs / "fp32.onnx").stat().st_size


def test_nearest_rounding_gives_the_same_graph_with_other_numbers(graphs: Path, tiny_student: Path) -> None:
    model, graph = load_classifier(tiny_student), onnx.load(graphs / "fp32.onnx")
    ids = np.arange(5, 37)
    text = EncodedTexts([ids], [np.zeros_like(ids)], np.zeros(1, dtype=bool), pad_id=0)
    inputs = collect_inputs(graphs / "fp32.onnx", linear_inputs(graph), text, np.zeros(1, dtype=np.int64))
    careful, quick = (
        quantize_graph(graph, count_layers(model), inputs, nearest=nearest)[0].graph for nearest in (False, True)
    )
    assert [node.SerializeToString() for node in careful.node] == [node.SerializeToString() for node in quick.node]
    shapes = [
        [(tensor.name, tensor.dims, tensor.data_type) for tensor in each.initializer] for each in (careful, quick)
    ]
    assert shapes[0] == shapes[1]
    assert any(a.raw_data != b.raw_data for a, b in zip(careful.initializer, quick.initializer, strict=True))


def test_a_layer_left_out_trips_the_count(
    tiny_student: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_linear = quantize._Quantizer.is_linear
    monkeypatch.setattr(
        quantize._Quantizer, "is_linear", lambda self, node: is_linear(self, node) and "layer.1/output" not in node.name
    )
    with pytest.raises(GateError, match="20 linear layers and 3 embedding tables, its graph 19 and 3"):
        export_loosely(tiny_student, data_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()
