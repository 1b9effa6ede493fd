"""Embedding tables in 8 bits a number, or 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from export.editing import GraphEditor
from export.rounding import HALF_LEVELS, Moments, compensate_rows, quantize_rows

FINE_ROWS = 255  # as many as a uint8 can number, 0 aside
SMALL_TABLE = 1024  # rows; positions and token types
# Errors of an embedding pass through the whole model, not through one layer: gradients say what matters less exactly.
DAMPING = 0.1


@dataclass(frozen=True)
class FourBits:
    """What 4-bit word embeddings are rounded by.

    Attributes:
        gradients: of the logits by word embeddings at some tokens, [T, K].
        frequent: ids of the most frequent word pieces, which stay int8; FINE_ROWS at most.
    """

    gradients: np.ndarray
    frequent: np.ndarray

    @staticmethod
    def of(gradients: np.ndarray, ids: np.ndarray) -> FourBits:
        """From gradients, and the ids of a text [T]."""
        found, counts = np.unique(ids, return_counts=True)
        return FourBits(gradients, found[np.argsort(-counts, kind="stable")][:FINE_ROWS])


def eight_bits(editor: GraphEditor, node: onnx.NodeProto, half: bool) -> None:
    """Look a row up as int8 and multiply it by its scale, which is kept in half precision or in full.

    A small table is multiplied as a whole: its numbers are constants, so runtimes do that once, when they load it.
    """
    table = node.input[0]
    rows = editor.array(table)
    if len(rows) <= SMALL_TABLE:
        quantized, scale = _eight_bits(rows, half)
        numbers = editor.add(
            "Cast", [editor.constant(f"{table}_int8", quantized)], f"{table}_float", to=TensorProto.FLOAT
        )
        whole = editor.add("Mul", [numbers, _full(editor, f"{table}_scale", scale)], f"{table}_rows")
        editor.add("Gather", [whole, node.input[1]], node.output[0])
        return
    _scaled_rows(editor, table, editor.array(table), half, node.input[1], node.output[0])


def four_bits(editor: GraphEditor, node: onnx.NodeProto, by: FourBits) -> None:
    """Look a row up as two numbers a byte, and one of the most frequent ones as int8.

    Byte j of a row holds columns j (low half) and K / 2 + j (high half). Each row is a sum of both kinds: a frequent
    one has the scale 0 in 4 bits, any other has the number 0 among the int8 rows, and row 0 there is zeros.
    """
    table, ids, out = node.input[0], node.input[1], node.output[0]
    rows = editor.array(table)
    scale = half_scales(np.abs(rows).max(axis=1, keepdims=True) / HALF_LEVELS)
    codes = compensate_rows(rows, scale.astype(np.float32), Moments.of(by.gradients, DAMPING))
    scale[by.frequent] = 0.0
    half = rows.shape[1] // 2
    packed = editor.constant(f"{table}_int4", codes[:, :half] | codes[:, half:] << 4)
    add, constant = editor.add, editor.constant
    both = add("Gather", [packed, ids], f"{out}_int4")
    low = add("BitwiseAnd", [both, constant("low_half", np.uint8(15))], f"{out}_low")
    high = add("BitShift", [both, constant("half_byte", np.uint8(4))], f"{out}_high", direction="RIGHT")
    levels = add(
        "Cast", [add("Concat", [low, high], f"{out}_levels", axis=-1)], f"{out}_unsigned", to=TensorProto.FLOAT
    )
    centred = add("Sub", [levels, constant("half_levels", np.float32(HALF_LEVELS))], f"{out}_centred")
    scales = _gather_scale(editor, f"{table}_int4_scale", scale, ids, f"{out}_int4_scale")
    coarse = add("Mul", [centred, scales], f"{out}_coarse")

    numbers = np.zeros(len(rows), dtype=np.uint8)
    numbers[by.frequent] = np.arange(1, len(by.frequent) + 1)
    fine = np.concatenate([np.zeros_like(rows[:1]), rows[by.frequent]])
    number = add("Gather", [constant(f"{table}_fine_number", numbers), ids], f"{out}_fine_uint8")
    number = add("Cast", [number], f"{out}_fine_number", to=TensorProto.INT32)
    _scaled_rows(editor, f"{table}_fine", fine, True, number, f"{out}_fine")
    add("Add", [coarse, f"{out}_fine"], out)


def _scaled_rows(editor: GraphEditor, table: str, rows: np.ndarray, half: bool, ids: str, out: str) -> None:
    quantized, scale = _eight_bits(rows, half)
    numbers = editor.add("Gather", [editor.constant(f"{table}_int8", quantized), ids], f"{out}_int8")
    numbers = editor.add("Cast", [numbers], f"{out}_float", to=TensorProto.FLOAT)
    editor.add("Mul", [numbers, _gather_scale(editor, f"{table}_scale", scale, ids, f"{out}_row_scale")], out)


def _eight_bits(rows: np.ndarray, half: bool) -> tuple[np.ndarray, np.ndarray]:
    quantized, scale = quantize_rows(rows)
    if half:
        scale = half_scales(scale)
        quantized = np.rint(rows / scale.astype(np.float32)).astype(np.int8)
    return quantized, scale


def _gather_scale(editor: GraphEditor, name: str, scale: np.ndarray, ids: str, out: str) -> str:
    return editor.add("Gather", [_full(editor, name, scale), ids], out)


def _full(editor: GraphEditor, name: str, scale: np.ndarray) -> str:
    """Scales in float32; from half precision by a Cast of a constant, which runtimes do once, when they load it."""
    kept = editor.constant(name, scale)
    return editor.add("Cast", [kept], f"{name}_float", to=TensorProto.FLOAT) if scale.dtype == np.float16 else kept


def half_scales(scale: np.ndarray) -> np.ndarray:
    """Scales in half precision, rounded up, so that no number of a row leaves its range."""
    half = scale.astype(np.float16)
    return np.where(half.astype(np.float32) < scale, np.nextafter(half, np.float16(np.inf)), half)
