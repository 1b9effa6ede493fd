"""Quantization of a float32 classifier graph to int8: no sum saturates, and no text depends on its batch.

A linear layer y = x W + b, x [B, L, K], W [K, N], becomes

    q_x = round((x - c) / (d s_x)) + z     uint8; shared by the layers that read x (query, key and value)
    y   = s_x s_w ((q_x - z) q_w) + b'     q_w int8 [K, N], s_w [N]: one scale an output channel

and an embedding table E [V, D] becomes int8 with one scale a row in half precision: E[i] = s_i q_i. The scales s_x:

    with calibration    behind a layer norm: one scale for all tokens, channels centred by c and divided by d [K]. A
                        second layer norm with other weights gives (x - c) / d in the same pass; z = 128
                        behind an activation function: one scale a token, z as low as the function's minimum allows,
                        because tokens differ there and negative values are small
                        elsewhere: one scale for all tokens
                        d goes into q_w, and c into b'; b' also takes the mean rounding error on calibration text
    without             s_x = max |x| / 127, one scale a token, z = 128, c = 0, d = 1, each weight to its nearest: the
                        arithmetic of quantization-aware training

The graph is first pruned and laid out by tokens (`export.graph.optimizations`). The residual of a layer norm is taken
from the divided channels, or takes the next layer's bias along: whichever saves a pass (`_add_residual`).

Weights of linear layers stay within +-63. AVX2 without VNNI multiplies uint8 by int8 with VPMADDUBSW, which adds two
products in a saturating int16: 2 * 255 * 63 = 32,130 fits in 32,767; the full range of +-127 does not. Embeddings are
never multiplied as integers and use the full range. Products of two activations, in attention, stay float32, and so
does the layer that gives the logits.

A token's numbers depend on that token alone. onnxruntime's own `quantize_dynamic` takes one scale for the whole batch,
padding included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class QuantizationRecord:
    """The quantized layers and tables of a graph, for the bundle.

    Attributes:
        calibrated: whether scales and rounding come from calibration text.
        linear: by layer name, the largest |weight| and the largest int16 sum that it can lead to.
        embedding: by table name, its rows and the bits of each number.
    """

    calibrated: bool = False
    linear: dict[str, dict[str, int]] = field(default_factory=dict)
    embedding: dict[str, dict[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the bundle."""
        return {
            "opset": OPSET, "ir_version": IR_VERSION, "calibrated": self.calibrated, "linear_nodes": len(self.linear),
            "embedding_nodes": len(self.embedding), "weight_limit": WEIGHT_LIMIT, "int16_limit": INT16_MAX,
            "linear": self.linear, "embedding": self.embedding,
        }  # fmt: skip


def linear_inputs(model: onnx.ModelProto) -> list[str]:
    """Return the names of the tensors that quantized linear layers read and calibration collects."""
    quantizer = _Quantizer(model)
    layers = filter(quantizer.is_linear, quantizer.editor.source_nodes)
    return list(dict.fromkeys(quantizer.activations.all_tokens(node.input[0]) for node in layers))


def quantize_graph(
    model: onnx.ModelProto,
    expected: LayerCount,
    calibration: Mapping[str, np.ndarray] | None = None,
    words: LowBitSettings | None = None,
    *,
    nearest: bool = False,
) -> tuple[onnx.ModelProto, QuantizationRecord]:
    """Rewrite a float32 classifier graph to int8.

    Args:
        model: from `export_fp32`, with its weights.
        expected: layers that the PyTorch model uses, the one that gives the logits included.
        calibration: values of the tensors of `linear_inputs`, or None for one scale a token and nearest rounding.
        words: for word embeddings in 4 or 2 bits; None for 8.
        nearest: round each weight alone, whatever calibration says: quick, for graphs that are timed and never trusted.

    Raises:
        GateError: the graph has other layers than expected: the exporter changed, and a part would stay float32.
    """
    quantizer = _Quantizer(tokens_first(prune_to_first_token(model)), calibration, words, nearest=nearest)
    for node in quantizer.editor.source_nodes:
        quantizer.rewrite(node)
    record = quantizer.record
    counted = LayerCount(linear=len(record.linear) + 1, embedding=len(record.embedding))
    if counted != expected:
        raise GateError(
            f"the model has {expected.linear} linear layers and {expected.embedding} embedding tables, its graph "
            f"{counted.linear} and {counted.embedding}: int8 would leave a part of it float32, or change another",
            expected="a graph as bert, distilbert, roberta, electra and mpnet have it",
            fix="toolkit export --fp32",
        )
    return quantizer.editor.build(OPSET, IR_VERSION), record


class _Quantizer:
    """Writes int8 nodes for the linear layers and embedding tables of a graph, except the layer of the logits."""

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Mapping[str, np.ndarray] | None = None,
        words: LowBitSettings | None = None,
        *,
        nearest: bool = False,
    ) -> None:
        self.editor = GraphEditor(model)
        self.words, self.nearest = words, nearest
        self.activations = Activations(self.editor, calibration)
        self.record = QuantizationRecord(calibrated=calibration is not None)
        self._hessians: dict[str, InverseHessian] = {}
        self._fused_biases: set[str] = set()

    def is_linear(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is a linear layer to quantize."""
        candidate = node.op_type in ("MatMul", "Gemm") and "logits" not in node.output
        return candidate and self.editor.is_matrix(node.input[1])

    def rewrite(self, node: onnx.NodeProto) -> None:
        """Append a node, or the int8 nodes that replace it."""
        if self.is_linear(node):
            self._quantize_linear(node)
        elif node.op_type == "Gather" and self.editor.is_matrix(node.input[0]):
            self._quantize_table(node)
        elif node.output[0] not in self._fused_biases:
            self.editor.nodes.append(node)

    def _quantize_table(self, node: onnx.NodeProto) -> None:
        table = self.editor.array(node.input[0])
        is_words = node.input[1] in ("input_ids", moved_ids("input_ids"))
        settings = self.words if is_words else None
        self.record.embedding[layer_name(node)] = {"rows": len(table), "bits": 8 if settings is None else settings.bits}
        if settings is not None:
            quantize_table_low_bit(self.editor, node, settings)
        else:
            quantize_table(self.editor, node)

    def _matrix(self, node: onnx.NodeProto) -> np.ndarray:
        matrix = self.editor.array(node.input[1])
        return matrix.T if attribute(node, "transB", 0) else matrix

    def _quantize_linear(self, node: onnx.NodeProto) -> None:
        """Quantize a MatMul with constant weights and the Add of its bias, or a Gemm.

        MatMulIntegerToFloat applies the channel scales in the kernel that multiplies; MatMulInteger, Cast and Mul would
        cost two more passes over the output. It takes one activation scale for the tensor. Where each token has its own
        scale, that one is 1 and a Mul applies the scales of the tokens.
        """
        source, rank, name = node.input[0], 2 if node.op_type == "Gemm" else 3, layer_name(node)
        root = self.activations.all_tokens(source)
        matrices = [
            self._matrix(layer)
            for layer in self.editor.source_nodes
            if self.is_linear(layer) and self.activations.all_tokens(layer.input[0]) == root
        ]
        activation = self.activations.quantize(source, rank, matrices)
        bias, out = self._bias(node)
        quantized, scale, bias = self._round(root, self._matrix(node), bias, activation)
        self.record.linear[name] = check_saturation(name, quantized)
        add, constant = self.editor.add, self.editor.constant
        inputs = [
            activation.integers, constant(f"{name}.int8", np.ascontiguousarray(quantized)), activation.scale,
            constant(f"{name}.scale", scale), activation.zero_point,
        ]  # fmt: skip
        if bias is not None:
            bias = self._add_residual(out, bias, fixed=activation.token_scale is None)
        shift = [] if bias is None else [constant(f"{name}.bias_int8", bias.astype(np.float32))]
        if activation.token_scale is None:
            add("MatMulIntegerToFloat", [*inputs, "", *shift], out)
            return
        product = add("MatMulIntegerToFloat", inputs, f"{out}_channels")
        scaled = add("Mul", [product, activation.token_scale], f"{out}_tokens" if shift else out)
        if shift:
            add("Add", [scaled, *shift], out)

    def _add_residual(self, out: str, bias: np.ndarray, *, fixed: bool) -> np.ndarray | None:
        """Save a pass over a layer's output or over the residual that is added to it, where calibration allows.

        The residual r comes from a layer norm. Quantized layers read (r - c) / d from a second layer norm. Where the
        bias would cost a pass of its own, a layer norm for the residual gives r + bias. Otherwise the residual is
        d ((r - c) / d), and c goes into the bias, so the first layer norm is not needed.

        Args:
            out: the layer's output.
            bias: of the layer [N].
            fixed: whether the product adds a bias in its own pass.

        Returns:
            The bias [N] that is still to be added.
        """
        (following, *more) = self.editor.readers.get(out, []) or [None]
        if more or following is None or following.op_type != "Add":
            return bias
        position = 1 - list(following.input).index(out)
        residual = following.input[position]
        if fixed:
            restored = self.activations.restore(residual)
            if restored is None:
                return bias
            following.input[position], centre = restored
            return np.asarray(bias + centre)
        biased = self.activations.with_bias(residual, bias)
        if biased is None:
            return bias
        following.input[position] = biased
        return None

    def _bias(self, node: onnx.NodeProto) -> tuple[np.ndarray | None, str]:
        """Return a layer's bias [N], and the tensor of its output with the bias added."""
        if node.op_type == "Gemm":
            return (self.editor.array(node.input[2]) if len(node.input) == 3 else None), node.output[0]
        (following,) = self.editor.readers[node.output[0]][:1]
        for name in following.input:
            constant = self.editor.constants.get(name)
            if following.op_type == "Add" and constant is not None and len(constant.dims) == 1:
                self._fused_biases.add(following.output[0])
                return self.editor.array(name), following.output[0]
        return None, node.output[0]

    def _round(
        self, source: str, weight: np.ndarray, bias: np.ndarray | None, activation: Activation
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Round W [K, N]: return its integers, the scales of its channels [N], and the bias that belongs to them."""
        smoothing, exact, dequantized = activation.smoothing, activation.exact, activation.dequantized
        if smoothing is None or exact is None or dequantized is None:
            return *quantize_channels(weight), bias
        folded = weight * smoothing.divisor[:, None]
        if self.nearest:
            return *quantize_channels(folded), np.asarray((0.0 if bias is None else bias) + smoothing.centre @ weight)
        if source not in self._hessians:
            # only the last one: layers that share an input follow each other
            self._hessians = {source: InverseHessian.of(dequantized)}
        quantized, scale = gptq_channels(folded, self._hessians[source])
        error = exact.mean(axis=0) @ folded - dequantized.mean(axis=0) @ (quantized * scale)
        return quantized, scale, (0.0 if bias is None else bias) + smoothing.centre @ weight + error
