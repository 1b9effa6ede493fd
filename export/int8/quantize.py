"""A float32 classifier graph to int8, so that no answer saturates and none depends on its neighbours.

A linear layer y = x W + b, x [B, L, K], W [K, N], becomes

    q_x = round((x - c) / (d s_x)) + z     uint8; shared by the layers that read x (query, key and value)
    y   = s_x s_w ((q_x - z) q_w) + b'     q_w int8 [K, N], s_w [N]: one scale an output channel

and an embedding table E [V, K] becomes int8 with one scale a row in half precision: E[i] = s_i q_i. Whence s_x:

    with calibration    behind a layer norm: one scale for all tokens, channels centred by c and divided by d [K],
                        which a second layer norm with its own weights does in the same pass; z = 128
                        behind an activation function: one scale a token, z as low as the function's minimum allows,
                        because tokens differ there and negative values are small
                        otherwise one scale for all tokens
                        d goes into q_w, c into b', and so does the mean error that rounding made on calibration text
    without             s_x = max |x| / 127, one scale a token, z = 128, c = 0, d = 1, each weight to its nearest: the
                        arithmetic that quantization-aware training goes through

The graph is first cut to what the answer needs and laid out by tokens (`export.graph.optimizations`); the residual of a
layer norm whose channels were centred and divided is made from these, or takes the next layer's bias along, whichever
spares a pass (`_with_residual`).

Weights of linear layers stay within +-63. AVX2 without VNNI multiplies uint8 by int8 with VPMADDUBSW, which adds two
products in a saturating int16: 2 * 255 * 63 = 32,130 fits in 32,767, the full range of +-127 does not. Embeddings are
never multiplied as integers and have the full range. Products of two activations, in attention, stay float32, and so
does the layer that gives the logits.

Either way a token's numbers come from that token alone. onnxruntime's own `quantize_dynamic` takes one scale for the
whole batch, padding included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from export.graph.editor import GraphEditor, attribute, layer_name
from export.graph.optimizations import moved_ids, prune_to_first_token, tokens_first
from export.int8.activations import Activation, Activations
from export.int8.embeddings import LowBitSettings, quantize_table, quantize_table_low_bit
from export.int8.rounding import (
    INT16_MAX,
    WEIGHT_LIMIT,
    InverseHessian,
    check_saturation,
    gptq_channels,
    quantize_channels,
)
from export.onnx_export import LayerCount
from toolkit.errors import GateError

OPSET = 21  # the first whose QuantizeLinear takes one scale a block, here a block is one token
IR_VERSION = 10  # the newest that onnxruntime 1.20 reads


@dataclass
class Record:
    """What was quantized, for the bundle.

    Attributes:
        calibrated: whether scales and rounding come from calibration text.
        linear: by layer name, the largest |weight| and the largest int16 sum that it can lead to.
        embedding: by table name, its rows and the bits of each number.
    """

    calibrated: bool = False
    linear: dict[str, dict[str, int]] = field(default_factory=dict)
    embedding: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the bundle."""
        return {
            "opset": OPSET, "ir_version": IR_VERSION, "calibrated": self.calibrated, "linear_nodes": len(self.linear),
            "embedding_nodes": len(self.embedding), "weight_limit": WEIGHT_LIMIT, "int16_limit": INT16_MAX,
            "linear": self.linear, "embedding": self.embedding,
        }  # fmt: skip


def linear_inputs(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that quantized linear layers read: what calibration has to watch."""
    quantizer = _Quantizer(model)
    return list(
        dict.fromkeys(
            quantizer.activations.whole(node.input[0]) for node in quantizer.editor.old if quantizer.linear(node)
        )
    )


def quantize_graph(
    model: onnx.ModelProto,
    expected: LayerCount,
    calibration: Mapping[str, np.ndarray] | None = None,
    words: LowBitSettings | None = None,
) -> tuple[onnx.ModelProto, Record]:
    """Rewrite a float32 classifier graph to int8.

    Args:
        model: from `export_fp32`, with its weights.
        expected: layers that the PyTorch model uses; all but the one that gives the logits must be found.
        calibration: values of the tensors of `linear_inputs`, or None for one scale a token and nearest rounding.
        words: for word embeddings in 4 or 2 bits; None for 8.

    Raises:
        GateError: other counts than expected: an exporter changed, and the graph would be float32 in part.
    """
    quantizer = _Quantizer(tokens_first(prune_to_first_token(model)), calibration, words)
    for node in quantizer.editor.old:
        quantizer.rewrite(node)
    record = quantizer.record
    found = LayerCount(linear=len(record.linear) + 1, embedding=len(record.embedding))
    if found != expected:
        raise GateError(
            f"the model has {expected.linear} linear layers and {expected.embedding} embedding tables, its graph "
            f"{found.linear} and {found.embedding}: int8 would leave a part of it float32, or change another",
            expected="a graph as bert, distilbert, roberta, electra and mpnet have it",
            fix="toolkit export --fp32",
        )
    return quantizer.editor.build(OPSET, IR_VERSION), record


class _Quantizer:
    """Int8 nodes for the linear layers and embedding tables of a graph; the layer that gives the logits stays."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Mapping[str, np.ndarray] | None = None,
        words: LowBitSettings | None = None,
    ) -> None:
        self.editor = GraphEditor(model)
        self.few_bits = words
        self.activations = Activations(self.editor, calibration)
        self.record = Record(calibrated=calibration is not None)
        self._moments: dict[str, InverseHessian] = {}
        self._taken: set[str] = set()

    def linear(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a linear layer to quantize."""
        named = node.op_type in ("MatMul", "Gemm") and "logits" not in node.output
        return named and self.editor.is_matrix(node.input[1])

    def rewrite(self, node: onnx.NodeProto) -> None:
        """Append a node, or the int8 nodes that stand for it."""
        if self.linear(node):
            self._linear(node)
        elif node.op_type == "Gather" and self.editor.is_matrix(node.input[0]):
            self._table(node)
        elif node.output[0] not in self._taken:
            self.editor.nodes.append(node)

    def _table(self, node: onnx.NodeProto) -> None:
        table = self.editor.array(node.input[0])
        words = node.input[1] in ("input_ids", moved_ids("input_ids"))
        few = self.few_bits if words else None
        self.record.embedding[layer_name(node)] = {"rows": len(table), "bits": 8 if few is None else few.bits}
        if few is not None:
            quantize_table_low_bit(self.editor, node, few)
        else:
            quantize_table(self.editor, node)

    def _matrix(self, node: onnx.NodeProto) -> np.ndarray:
        matrix = self.editor.array(node.input[1])
        return matrix.T if attribute(node, "transB", 0) else matrix

    def _linear(self, node: onnx.NodeProto) -> None:
        """MatMul with constant weights and the Add of its bias that follows, or Gemm.

        MatMulIntegerToFloat applies the channel scales in the kernel that multiplies; as MatMulInteger, Cast and Mul
        they cost two more passes over the output. It takes one activation scale for the tensor: where tokens have
        scales of their own that is 1, and theirs are multiplied in afterwards.
        """
        source, rank, name = node.input[0], 2 if node.op_type == "Gemm" else 3, layer_name(node)
        root = self.activations.whole(source)
        beside = [
            self._matrix(one)
            for one in self.editor.old
            if self.linear(one) and self.activations.whole(one.input[0]) == root
        ]
        activation = self.activations.quantize(source, rank, beside)
        bias, out = self._bias(node)
        quantized, scale, bias = self._round(root, self._matrix(node), bias, activation)
        self.record.linear[name] = check_saturation(name, quantized)
        add, constant = self.editor.add, self.editor.constant
        inputs = [
            activation.integers, constant(f"{name}.int8", np.ascontiguousarray(quantized)), activation.scale,
            constant(f"{name}.scale", scale), activation.zero_point,
        ]  # fmt: skip
        if bias is not None:
            bias = self._with_residual(out, bias, fixed=activation.token_scale is None)
        shift = [] if bias is None else [constant(f"{name}.bias_int8", bias.astype(np.float32))]
        if activation.token_scale is None:
            add("MatMulIntegerToFloat", [*inputs, "", *shift], out)
            return
        product = add("MatMulIntegerToFloat", inputs, f"{out}_channels")
        scaled = add("Mul", [product, activation.token_scale], f"{out}_tokens" if shift else out)
        if shift:
            add("Add", [scaled, *shift], out)

    def _with_residual(self, out: str, bias: np.ndarray, *, fixed: bool) -> np.ndarray | None:
        """Spare a pass over a layer's output or over the residual that is added to it, as far as calibration allows.

        The residual comes from a layer norm that the quantized layers read centred and divided, by a second one. Where
        the bias costs a pass of its own, a layer norm for the residual alone adds it on the way. Where it does not,
        the residual is the divided one multiplied by d, and c goes into the bias: cheaper than the first layer norm.

        Returns:
            The bias that is still to be added.
        """
        (following, *more) = self.editor.readers.get(out, []) or [None]
        if more or following is None or following.op_type != "Add":
            return bias
        place = 1 - list(following.input).index(out)
        residual = following.input[place]
        if fixed:
            restored = self.activations.restored(residual)
            if restored is None:
                return bias
            following.input[place], centre = restored
            return np.asarray(bias + centre)
        biased = self.activations.biased(residual, bias)
        if biased is None:
            return bias
        following.input[place] = biased
        return None

    def _bias(self, node: onnx.NodeProto) -> tuple[np.ndarray | None, str]:
        """A layer's bias [N] and the tensor that holds its output with the bias added."""
        if node.op_type == "Gemm":
            return (self.editor.array(node.input[2]) if len(node.input) == 3 else None), node.output[0]
        (following,) = self.editor.readers[node.output[0]][:1]
        for name in following.input:
            one = self.editor.constants.get(name)
            if following.op_type == "Add" and one is not None and len(one.dims) == 1:
                self._taken.add(following.output[0])
                return self.editor.array(name), following.output[0]
        return None, node.output[0]

    def _round(
        self, source: str, weight: np.ndarray, bias: np.ndarray | None, activation: Activation
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Integers, channel scales and the bias that goes with them."""
        smoothing, exact, kept = activation.smoothing, activation.exact, activation.kept
        if smoothing is None or exact is None or kept is None:
            return *quantize_channels(weight), bias
        folded = weight * smoothing.divisor[:, None]
        if source not in self._moments:
            self._moments = {
                source: InverseHessian.of(kept)
            }  # one at a time: layers that share an input stand together
        quantized, scale = gptq_channels(folded, self._moments[source])
        error = exact.mean(axis=0) @ folded - kept.mean(axis=0) @ (quantized * scale)
        return quantized, scale, (0.0 if bias is None else bias) + smoothing.centre @ weight + error
