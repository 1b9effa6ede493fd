"""Word embeddings in few bits: what comes out of the graph, row by row, against the table that went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.editor import GraphEditor
from export.int8.embeddings import COMMON_ROWS, FINE_ROWS, LowBitSettings, quantize_table_low_bit
from export.int8.quantize import IR_VERSION, OPSET
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime

ROWS, WIDTH = 400, 16
FREQUENT, COMMON = np.arange(5, 25), np.arange(100, 350)  # more than a uint8 can number are common, in the second test


def lookup(table: np.ndarray, by: LowBitSettings, path: Path) -> tuple[np.ndarray, onnx.ModelProto]:
    """All rows of a table as a graph with few bits gives them, and the graph."""
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "L", table.shape[1]])
    node = helper.make_node("Gather", ["table", "input_ids"], ["logits"], name="/embed/Gather")
    graph = helper.make_graph([node], "lookup", ids, [out], [numpy_helper.from_array(table, "table")])
    editor = GraphEditor(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    quantize_table_low_bit(editor, editor.old[0], by)
    model = editor.build(OPSET, IR_VERSION)
    onnx.save(model, path)
    rows = np.arange(len(table), dtype=np.int64)[None]
    return OnnxRuntime(path, threads=1).run({"input_ids": rows, "attention_mask": rows})[0], model


@pytest.fixture
def table() -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    made[7] = made[120] = made[399] = 0.0  # the row of [PAD] is zeros
    return made


@pytest.mark.parametrize("bits", [2, 4])
def test_each_row_comes_back_as_near_as_its_bits_allow(bits: int, table: np.ndarray, tmp_path: Path) -> None:
    gradients = np.eye(WIDTH)  # every number matters alike: each goes to its nearest level
    found, model = lookup(table, LowBitSettings(bits, gradients, FREQUENT, COMMON), tmp_path / "model.onnx")
    largest = np.abs(table).max(axis=1, keepdims=True)
    error, rare = np.abs(found - table), np.setdiff1d(np.arange(ROWS), [*FREQUENT, *COMMON])
    slack = 1.002  # scales are kept in half precision
    assert (error <= slack * largest / 127)[FREQUENT].all()
    assert (error <= slack * largest / 15 + 1e-6)[
        COMMON if bits == 2 else np.setdiff1d(np.arange(ROWS), FREQUENT)
    ].all()
    assert not found[[7, 120, 399]].any()
    if bits == 2:
        spread = np.sqrt(np.square(error[rare]).sum() / np.square(table[rare]).sum())
        assert spread == pytest.approx(0.345, abs=0.03)  # 9.25 dB: what four equal steps keep of a bell curve
        assert len(np.unique(np.round(found[rare[0]], 5))) <= 4
    packed = {one.name: tuple(one.dims) for one in model.graph.initializer if one.data_type == TensorProto.UINT8}
    tables = {f"table_int{bits}": (ROWS, WIDTH * bits // 8)} | ({"table_lower": (251, 4)} if bits == 2 else {})
    assert packed == tables | {"table_fine_number": (ROWS,)} | ({"table_lower_number": (ROWS,)} if bits == 2 else {})


def test_more_than_255_common_rows_have_numbers_of_their_own(table: np.ndarray, tmp_path: Path) -> None:
    common = np.arange(40, 360)
    found, model = lookup(table, LowBitSettings(2, np.eye(WIDTH), FREQUENT, common), tmp_path / "model.onnx")
    error = np.abs(found - table)[common]
    assert (error <= 1.002 * np.abs(table[common]).max(axis=1, keepdims=True) / 15 + 1e-6).all()
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert kinds["table_lower_number"] == TensorProto.UINT16


def test_frequency_tells_how_many_bits() -> None:
    ids = np.repeat(np.arange(5000), np.arange(5000, 0, -1))
    by = LowBitSettings.of(np.eye(4), ids, 2)
    assert by.frequent.tolist() == list(range(FINE_ROWS))
    assert by.common.tolist() == list(range(FINE_ROWS, COMMON_ROWS))


def test_a_width_that_leaves_half_a_byte_is_refused(tmp_path: Path) -> None:
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(ToolkitError, match="6 numbers do not fill whole bytes of 2 bits"):
        lookup(np.ones((3, 6), dtype=np.float32), LowBitSettings(2, np.eye(6), none, none), tmp_path / "model.onnx")
