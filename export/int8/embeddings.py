"""Embedding tables in 8 bits a number, 4, or 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from export.graph.editor import GraphEditor
from export.int8.rounding import HALF_LEVELS, SMALLEST, InverseHessian, gptq_rows, half_scales, quantize_rows
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import ToolkitError

FINE_ROWS = 255  # as many as a uint8 can number, 0 aside
COMMON_ROWS = 3072  # of the most frequent pieces, which have 4 bits where others have 2
SMALL_TABLE = 1024  # rows; positions and token types
# Errors of an embedding pass through the whole model, not through one layer: gradients say what matters less exactly.
DAMPING = 0.1
TEXTS = 128
BATCH_SIZE = 16


@dataclass(frozen=True)
class LowBitSettings:
    """What word embeddings of 4 or 2 bits are rounded by.

    Attributes:
        bits: of each number, but for frequent and common word pieces.
        gradients: of the logits by word embeddings at some tokens, [T, K].
        frequent: ids of the most frequent word pieces, which stay int8; FINE_ROWS at most.
        common: of the next ones, which have 4 bits where others have 2.
    """

    bits: int
    gradients: np.ndarray
    frequent: np.ndarray
    common: np.ndarray

    @staticmethod
    def of(gradients: np.ndarray, ids: np.ndarray, bits: int) -> LowBitSettings:
        """From gradients, and the ids of a text [T]."""
        found, counts = np.unique(ids, return_counts=True)
        found = found[np.argsort(-counts, kind="stable")]
        return LowBitSettings(bits, gradients, found[:FINE_ROWS], found[FINE_ROWS:COMMON_ROWS])


def quantize_table(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Look a row up as int8 and multiply it by its scale.

    A small table is multiplied as a whole: its numbers are constants, so runtimes do that once, when they load it.
    """
    table = node.input[0]
    rows = editor.array(table)
    if len(rows) <= SMALL_TABLE:
        quantized, scale = quantize_rows(rows)
        numbers = editor.add(
            "Cast", [editor.constant(f"{table}_int8", quantized)], f"{table}_float", to=TensorProto.FLOAT
        )
        whole = editor.add("Mul", [numbers, _full(editor, f"{table}_scale", scale)], f"{table}_rows")
        editor.add("Gather", [whole, node.input[1]], node.output[0])
        return
    _scaled_rows(editor, table, rows, node.input[1], node.output[0])


def quantize_table_low_bit(editor: GraphEditor, node: onnx.NodeProto, by: LowBitSettings) -> None:
    """Look a row up in 4 or 2 bits a number, and one of the most frequent ones as int8.

    Each row is a sum of all kinds: a frequent one has the scale 0 in few bits, any other has the number 0 among the
    int8 rows, and row 0 there is zeros. A row of 4 bits where others have 2 is s (4 h + l - 7.5): the upper two bits
    stand among those of the others, as 4 s (h - 1.5), and the lower two, s (l - 1.5), in a table of their own.
    """
    table, ids, out = node.input[0], node.input[1], node.output[0]
    if editor.array(table).shape[1] % (8 // by.bits):
        raise ToolkitError(
            f"word embeddings of {editor.array(table).shape[1]} numbers do not fill whole bytes of {by.bits} bits each",
            fix="--embedding-bits 8",
        )
    rows, moments = editor.array(table), InverseHessian.of(by.gradients, DAMPING)
    chosen = np.arange(len(rows)) if by.bits == 4 else by.common
    scale = half_scales(np.abs(rows[chosen]).max(axis=1, keepdims=True) / HALF_LEVELS)
    codes = gptq_rows(rows[chosen], scale.astype(np.float32), moments)
    parts = []
    if by.bits == 4:
        scale[by.frequent] = 0.0
        parts.append(_packed_rows(editor, f"{table}_int4", codes, scale, ids, f"{out}_int4"))
    else:
        base, base_scale = _two_bits(rows, moments)
        base[chosen], base_scale[chosen], base_scale[by.frequent] = codes >> 2, 4 * scale, 0.0
        parts.append(_packed_rows(editor, f"{table}_int2", base, base_scale, ids, f"{out}_int2"))
    if by.bits == 2 and len(chosen):
        number = _numbers(editor, f"{table}_lower", len(rows), chosen, ids, f"{out}_lower")
        codes, scale = (np.concatenate([np.zeros_like(one[:1]), one]) for one in (codes & 3, scale))
        parts.append(_packed_rows(editor, f"{table}_lower", codes, scale, number, f"{out}_lower"))
    number = _numbers(editor, f"{table}_fine", len(rows), by.frequent, ids, f"{out}_fine")
    fine = np.concatenate([np.zeros_like(rows[:1]), rows[by.frequent]])
    _scaled_rows(editor, f"{table}_fine", fine, number, f"{out}_fine")
    editor.add("Sum", [*parts, f"{out}_fine"], out)


def _two_bits(rows: np.ndarray, moments: InverseHessian) -> tuple[np.ndarray, np.ndarray]:
    """q [V, K] of 0 to 3 and s [V, 1], E ~ s (q - 1.5): steps of one standard deviation, best for a bell curve."""
    steps = np.maximum(rows.std(axis=1, keepdims=True), SMALLEST)
    codes = gptq_rows(rows, steps, moments, half_levels=1.5)
    levels = codes - np.float32(1.5)
    scale = (rows * levels).sum(axis=1, keepdims=True) / np.square(levels).sum(axis=1, keepdims=True)
    return codes, scale.astype(np.float16)


def _packed_rows(editor: GraphEditor, table: str, codes: np.ndarray, scale: np.ndarray, ids: str, out: str) -> str:
    """s (q - middle) of rows q [V, K], kept as several numbers a byte, and read by a table of what each byte means."""
    each = 4 if table.endswith("_int4") else 2  # bits
    count, middle = 8 // each, ((1 << each) - 1) / 2
    shifts = each * np.arange(count)
    width = codes.shape[1]
    packed = np.bitwise_or.reduce(codes.reshape(len(codes), -1, count) << shifts, axis=2).astype(np.uint8)
    meaning = ((np.arange(256)[:, None] >> shifts & ((1 << each) - 1)) - middle).astype(np.float32)  # 256 count
    add, constant = editor.add, editor.constant
    both = add("Gather", [constant(table, packed), ids], f"{out}_bytes")
    both = add("Cast", [both], f"{out}_places", to=TensorProto.INT32)
    numbers = add("Gather", [constant(f"meaning_{each}", meaning), both], f"{out}_numbers")
    shape = constant(f"shape_0_0_{width}", np.array([0, 0, width], dtype=np.int64))
    numbers = add("Reshape", [numbers, shape], f"{out}_levels")
    scaled = _gather_scale(editor, f"{table}_scale", scale, ids, f"{out}_row_scale")
    return add("Mul", [numbers, scaled], f"{out}_scaled")


def _numbers(editor: GraphEditor, table: str, count: int, chosen: np.ndarray, ids: str, out: str) -> str:
    """1, 2, ... for ids that are chosen, 0 for all others."""
    numbers = np.zeros(count, dtype=np.uint8 if len(chosen) < 256 else np.uint16)
    numbers[chosen] = np.arange(1, len(chosen) + 1)
    found = editor.add("Gather", [editor.constant(f"{table}_number", numbers), ids], f"{out}_number_kept")
    return editor.add("Cast", [found], f"{out}_number", to=TensorProto.INT32)


def _scaled_rows(editor: GraphEditor, table: str, rows: np.ndarray, ids: str, out: str) -> None:
    quantized, scale = quantize_rows(rows)
    numbers = editor.add("Gather", [editor.constant(f"{table}_int8", quantized), ids], f"{out}_int8")
    numbers = editor.add("Cast", [numbers], f"{out}_float", to=TensorProto.FLOAT)
    editor.add("Mul", [numbers, _gather_scale(editor, f"{table}_scale", scale, ids, f"{out}_row_scale")], out)


def _gather_scale(editor: GraphEditor, name: str, scale: np.ndarray, ids: str, out: str) -> str:
    return editor.add("Gather", [_full(editor, name, scale), ids], out)


def _full(editor: GraphEditor, name: str, scale: np.ndarray) -> str:
    """Scales in float32, from half precision by a Cast of a constant, which runtimes do once, when they load it."""
    return editor.add("Cast", [editor.constant(name, scale)], f"{name}_float", to=TensorProto.FLOAT)


def embedding_gradients(model: Any, encoded: EncodedTexts, rows: np.ndarray) -> np.ndarray:
    """Gradients of each logit by the word embedding at each real token, [T C, K], over the first TEXTS rows.

    Args:
        model: a PyTorch classifier.
        encoded: texts.
        rows: numbers of texts in them, in random order.
    """
    import torch

    from toolkit.models.families import model_inputs

    caught: list[torch.Tensor] = []

    def catch(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    hook = model.get_input_embeddings().register_forward_hook(catch)
    found = []
    try:
        for start in range(0, min(TEXTS, len(rows)), BATCH_SIZE):
            caught.clear()
            batch = {k: torch.from_numpy(v) for k, v in encoded.batch(rows[start : start + BATCH_SIZE]).items()}
            logits = model(**model_inputs(model, batch)).logits
            real = batch["attention_mask"].bool()
            for column in logits.sum(dim=0):
                (gradient,) = torch.autograd.grad(column, caught[-1], retain_graph=True)
                found.append(gradient[real].numpy())
    finally:
        hook.remove()
    return np.concatenate(found)
