"""Word embeddings in few bits: the rows that the graph gives, against the rows of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.graph.editor import GraphEditor
from export.int8.embeddings import COMMON_ROWS, FINE_ROWS, LowBitSettings, embedding_gradients, quantize_table_low_bit
from export.int8.quantize import IR_VERSION, OPSET
from export.onnx_export import load_classifier
from tests.support.exporting import export_loosely
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime

ROWS, WIDTH = 400, 16
FREQUENT, COMMON = np.arange(5, 25), np.arange(100, 350)  # more than a uint8 can number are common, in the second test


def lookup(table: np.ndarray, settings: LowBitSettings, path: Path) -> tuple[np.ndarray, onnx.ModelProto]:
    """All rows of a table as a graph with few bits gives them, and the graph."""
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L", table.shape[1]])
    node = helper.make_node("Gather", ["table", "input_ids"], ["logits"], name="/embed/Gather")
    graph = helper.make_graph([node], "lookup", ids, [out], [numpy_helper.from_array(table, "table")])
    editor = GraphEditor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    quantize_table_low_bit(editor, editor.source_nodes[0], settings)
    model = editor.build(OPSET, IR_VERSION)
    onnx.save(model, path)
    rows = np.arange(len(table), dtype=np.int64)[None]
    return OnnxRuntime(path, threads=1).run({"input_ids": rows, "attention_mask": rows})[0], model


@pytest.fixture
def table() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    values[7] = values[120] = values[399] = 0.0  # the row of [PAD] is zeros
    return values


@pytest.mark.parametrize("bits", [2, 4])
def test_each_row_comes_back_as_near_as_its_bits_allow(bits: int, table: np.ndarray, tmp_path: Path) -> None:
    gradients = np.eye(WIDTH)  # every number matters alike: each goes to its nearest level
    rows, model = lookup(table, LowBitSettings(bits, gradients, FREQUENT, COMMON), tmp_path / "model.onnx")
    largest = np.abs(table).max(axis=1, keepdims=True)
    error, rare = np.abs(rows - table), np.setdiff1d(np.arange(ROWS), [*FREQUENT, *COMMON])
    slack = 1.002  # scales are kept in half precision
    assert (error <= slack * largest / 127)[FREQUENT].all()
    assert (error <= slack * largest / 15 + 1e-6)[
        COMMON if bits == 2 else np.setdiff1d(np.arange(ROWS), FREQUENT)
    ].all()
    assert not rows[[7, 120, 399]].any()
    if bits == 2:
        spread = np.sqrt(np.square(error[rare]).sum() / np.square(table[rare]).sum())
        assert spread == pytest.approx(0.345, abs=0.03)  # 9.25 dB: what four equal steps keep of a bell curve
        assert len(np.unique(np.round(rows[rare[0]], 5))) <= 4
    packed = {
        tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == TensorProto.UINT8
    }
    tables = {f"table_int{bits}": (ROWS, WIDTH * bits // 8)} | ({"table_lower": (251, 4)} if bits == 2 else {})
    assert packed == tables | {"table_fine_number": (ROWS,)} | ({"table_lower_number": (ROWS,)} if bits == 2 else {})


def test_more_than_255_common_rows_have_numbers_of_their_own(table: np.ndarray, tmp_path: Path) -> None:
    common = np.arange(40, 360)
    rows, model = lookup(table, LowBitSettings(2, np.eye(WIDTH), FREQUENT, common), tmp_path / "model.onnx")
    error = np.abs(rows - table)[common]
    assert (error <= 1.002 * np.abs(table[common]).max(axis=1, keepdims=True) / 15 + 1e-6).all()
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["table_lower_number"] == TensorProto.UINT16


def test_frequency_tells_how_many_bits() -> None:
    ids = np.repeat(np.arange(5000), np.arange(5000, 0, -1))
    settings = LowBitSettings.of(np.eye(4), ids, 2)
    assert settings.frequent.tolist() == list(range(FINE_ROWS))
    assert settings.common.tolist() == list(range(FINE_ROWS, COMMON_ROWS))


def test_a_width_that_leaves_half_a_byte_is_refused(tmp_path: Path) -> None:
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(ToolkitError, match="6 numbers do not fill whole bytes of 2 bits"):
        lookup(np.ones((3, 6), dtype=np.float32), LowBitSettings(2, np.eye(6), none, none), tmp_path / "model.onnx")


@pytest.mark.parametrize("bits", [4, 2])
def test_few_bits(bits: int, tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "few", embedding_bits=bits)
    tables = bundle.manifest["quantization"]["embedding"]
    assert {name.split(".")[-1]: table["bits"] for name, table in tables.items()} == {
        "word_embeddings": bits, "position_embeddings": 8, "token_type_embeddings": 8,
    }  # fmt: skip
    constants = onnx.load(bundle.weights).graph.initializer
    packed = next(tensor for tensor in constants if tensor.name.endswith(f"_int{bits}"))
    assert list(packed.dims) == [tables["bert.embeddings.word_embeddings"]["rows"], 3 * bits]  # of 24 numbers
    assert bundle.manifest["gates"]["max_batch_difference"] <= 1e-5


def test_gradients_of_the_logits_by_word_embeddings(tiny_student: Path) -> None:
    """Against finite differences: the embedding of one token is moved by a small step along each gradient."""
    model = load_classifier(tiny_student)
    encoded = TextEncoder(tiny_student, 32).encode(["a good film", "dull"])
    gradients = embedding_gradients(model, encoded, np.array([1]))
    tokens = len(encoded.ids[1])
    assert gradients.shape == (2 * tokens, 24)  # two classes
    feed = {name: torch.from_numpy(values) for name, values in encoded.batch([1]).items()}
    step = 1e-3
    for label in range(2):
        direction = torch.from_numpy(gradients[label * tokens + 1])

        def shift(sign: int, direction: torch.Tensor = direction) -> torch.Tensor:
            def move(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
                output = output.clone()
                output[0, 1] += sign * step * direction
                return output

            hook = model.get_input_embeddings().register_forward_hook(move)
            with torch.inference_mode():
                logits = model(**feed).logits[0]
            hook.remove()
            return logits

        slope = float((shift(1) - shift(-1))[label]) / (2 * step)
        assert slope == pytest.approx(float(direction.square().sum()), rel=0.02)
