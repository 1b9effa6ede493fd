"""Embedding tables in 8, 4 or 2 bits a number."""

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

FINE_ROWS = 255  # int8 rows beside few bits; a uint8 numbers them from 1
COMMON_ROWS = 3072  # the pieces so frequent that they have more than 2 bits
SMALL_TABLE = 1024  # rows; tables of positions and token types have fewer
# More damping than for a layer: an embedding acts on the logits through the whole model, which gradients describe only
# in part.
DAMPING = 0.1
TEXTS = 128
BATCH_SIZE = 16


@dataclass(frozen=True)
class LowBitSettings:
    """The settings of word embeddings in 4 or 2 bits.

    Attributes:
        bits: of each number of a rare word piece.
        gradients: of the logits by word embeddings at some tokens, [T, D].
        frequent: ids of the most frequent word pieces, which have 8 bits; FINE_ROWS at most.
        common: ids of the next word pieces, which have 4 bits.
    """

    bits: int
    gradients: np.ndarray
    frequent: np.ndarray
    common: np.ndarray

    @staticmethod
    def of(gradients: np.ndarray, ids: np.ndarray, bits: int) -> LowBitSettings:
        """Choose frequent and common word pieces by the ids of a text [T]."""
        pieces, counts = np.unique(ids, return_counts=True)
        pieces = pieces[np.argsort(-counts, kind="stable")]
        return LowBitSettings(bits, gradients, pieces[:FINE_ROWS], pieces[FINE_ROWS:COMMON_ROWS])


def quantize_table(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Replace a Gather of float32 rows by a Gather of int8 rows and a product with their scales.

    A small table is multiplied as a whole: its numbers are constants, so runtimes fold the product when they load it.
    """
    table = node.input[0]
    rows = editor.array(table)
    if len(rows) <= SMALL_TABLE:
        quantized, scale = quantize_rows(rows)
        numbers = editor.add(
            "Cast", [editor.constant(f"{table}_int8", quantized)], f"{table}_float", to=TensorProto.FLOAT
        )
        whole = editor.add("Mul", [numbers, _float_scale(editor, f"{table}_scale", scale)], f"{table}_rows")
        editor.add("Gather", [whole, node.input[1]], node.output[0])
        return
    _add_int8_lookup(editor, table, rows, node.input[1], node.output[0])


def quantize_table_low_bit(editor: GraphEditor, node: onnx.NodeProto, settings: LowBitSettings) -> None:
    """Replace a Gather of float32 rows by lookups in tables of few bits, and of 8 bits for the most frequent pieces.

    The row of an id is the sum of its rows in all tables. A frequent piece has the scale 0 in the table of few bits.
    Every other piece has the number 0 in the int8 table, whose row 0 is zeros.

    A common piece beside 2 bits has 4: s (4 h + l - 7.5) = 4 s (h - 1.5) + s (l - 1.5). The upper bits h are in the
    table of 2 bits with the scale 4 s; the lower bits l are in a table of their own.

    Raises:
        ToolkitError: a row does not fill whole bytes.
    """
    table, ids, out = node.input[0], node.input[1], node.output[0]
    rows = editor.array(table)
    if rows.shape[1] % (8 // settings.bits):
        raise ToolkitError(
            f"word embeddings of {rows.shape[1]} numbers do not fill whole bytes of {settings.bits} bits each",
            fix="--embedding-bits 8",
        )
    inverse_hessian = InverseHessian.of(settings.gradients, DAMPING)
    chosen = np.arange(len(rows)) if settings.bits == 4 else settings.common
    scale = half_scales(np.abs(rows[chosen]).max(axis=1, keepdims=True) / HALF_LEVELS)
    codes = gptq_rows(rows[chosen], scale.astype(np.float32), inverse_hessian)
    parts = []
    if settings.bits == 4:
        scale[settings.frequent] = 0.0
        parts.append(_add_packed_lookup(editor, f"{table}_int4", codes, scale, ids, f"{out}_int4"))
    else:
        base, base_scale = _two_bit_codes(rows, inverse_hessian)
        base[chosen], base_scale[chosen], base_scale[settings.frequent] = codes >> 2, 4 * scale, 0.0
        parts.append(_add_packed_lookup(editor, f"{table}_int2", base, base_scale, ids, f"{out}_int2"))
    if settings.bits == 2 and len(chosen):
        number = _add_numbering(editor, f"{table}_lower", len(rows), chosen, ids, f"{out}_lower")
        codes, scale = (np.concatenate([np.zeros_like(array[:1]), array]) for array in (codes & 3, scale))
        parts.append(_add_packed_lookup(editor, f"{table}_lower", codes, scale, number, f"{out}_lower"))
    number = _add_numbering(editor, f"{table}_fine", len(rows), settings.frequent, ids, f"{out}_fine")
    fine = np.concatenate([np.zeros_like(rows[:1]), rows[settings.frequent]])
    _add_int8_lookup(editor, f"{table}_fine", fine, number, f"{out}_fine")
    editor.add("Sum", [*parts, f"{out}_fine"], out)


def _two_bit_codes(rows: np.ndarray, inverse_hessian: InverseHessian) -> tuple[np.ndarray, np.ndarray]:
    """Round E [V, D] to q [V, D] of 0 to 3 and s [V, 1], E ~ s (q - 1.5).

    Steps of one standard deviation lose least of normally distributed numbers. s is then fitted by least squares.
    """
    steps = np.maximum(rows.std(axis=1, keepdims=True), SMALLEST)
    codes = gptq_rows(rows, steps, inverse_hessian, half_levels=1.5)
    levels = codes - np.float32(1.5)
    scale = (rows * levels).sum(axis=1, keepdims=True) / np.square(levels).sum(axis=1, keepdims=True)
    return codes, scale.astype(np.float16)


def _add_packed_lookup(
    editor: GraphEditor, table: str, codes: np.ndarray, scale: np.ndarray, ids: str, out: str
) -> str:
    """Add the lookup of s (q - middle), with the rows q [V, D] packed into bytes, and return its output.

    A table of 256 rows gives the numbers that each byte stands for.
    """
    bits = 4 if table.endswith("_int4") else 2
    count, middle = 8 // bits, ((1 << bits) - 1) / 2
    shifts = bits * np.arange(count)
    width = codes.shape[1]
    packed = np.bitwise_or.reduce(codes.reshape(len(codes), -1, count) << shifts, axis=2).astype(np.uint8)
    decoded = ((np.arange(256)[:, None] >> shifts & ((1 << bits) - 1)) - middle).astype(np.float32)  # 256 count
    add, constant = editor.add, editor.constant
    bytes_read = add("Gather", [constant(table, packed), ids], f"{out}_bytes")
    positions = add("Cast", [bytes_read], f"{out}_places", to=TensorProto.INT32)
    numbers = add("Gather", [constant(f"meaning_{bits}", decoded), positions], f"{out}_numbers")
    shape = constant(f"shape_0_0_{width}", np.array([0, 0, width], dtype=np.int64))
    numbers = add("Reshape", [numbers, shape], f"{out}_levels")
    scaled = _add_scale_lookup(editor, f"{table}_scale", scale, ids, f"{out}_row_scale")
    return add("Mul", [numbers, scaled], f"{out}_scaled")


def _add_numbering(editor: GraphEditor, table: str, count: int, chosen: np.ndarray, ids: str, out: str) -> str:
    """Add the lookup of 1, 2, ... for the chosen ids and 0 for all others, and return its output."""
    numbers = np.zeros(count, dtype=np.uint8 if len(chosen) < 256 else np.uint16)
    numbers[chosen] = np.arange(1, len(chosen) + 1)
    stored = editor.add("Gather", [editor.constant(f"{table}_number", numbers), ids], f"{out}_number_kept")
    return editor.add("Cast", [stored], f"{out}_number", to=TensorProto.INT32)


def _add_int8_lookup(editor: GraphEditor, table: str, rows: np.ndarray, ids: str, out: str) -> None:
    quantized, scale = quantize_rows(rows)
    numbers = editor.add("Gather", [editor.constant(f"{table}_int8", quantized), ids], f"{out}_int8")
    numbers = editor.add("Cast", [numbers], f"{out}_float", to=TensorProto.FLOAT)
    editor.add("Mul", [numbers, _add_scale_lookup(editor, f"{table}_scale", scale, ids, f"{out}_row_scale")], out)


def _add_scale_lookup(editor: GraphEditor, name: str, scale: np.ndarray, ids: str, out: str) -> str:
    return editor.add("Gather", [_float_scale(editor, name, scale), ids], out)


def _float_scale(editor: GraphEditor, name: str, scale: np.ndarray) -> str:
    """Add scales of half precision, cast to float32; runtimes fold the Cast when they load the graph."""
    return editor.add("Cast", [editor.constant(name, scale)], f"{name}_float", to=TensorProto.FLOAT)


def embedding_gradients(model: Any, encoded: EncodedTexts, rows: np.ndarray) -> np.ndarray:
    """Compute the gradient of each logit by the word embedding at each real token.

    Args:
        model: a PyTorch classifier.
        encoded: texts.
        rows: numbers of texts, in random order; the first TEXTS are used.

    Returns:
        [T C, D], class by class within each batch.
    """
    import torch

    from toolkit.models.families import model_inputs

    embeddings: list[torch.Tensor] = []

    def record(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embeddings.append(output.detach().requires_grad_())
        return embeddings[-1]

    hook = model.get_input_embeddings().register_forward_hook(record)
    gradients = []
    try:
        for start in range(0, min(TEXTS, len(rows)), BATCH_SIZE):
            embeddings.clear()
            batch = {k: torch.from_numpy(v) for k, v in encoded.batch(rows[start : start + BATCH_SIZE]).items()}
            logits = model(**model_inputs(model, batch)).logits
            real = batch["attention_mask"].bool()
            for column in logits.sum(dim=0):
                (gradient,) = torch.autograd.grad(column, embeddings[-1], retain_graph=True)
                gradients.append(gradient[real].numpy())
    finally:
        hook.remove()
    return np.concatenate(gradients)
