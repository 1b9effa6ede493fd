"""A float32 classifier graph to int8, so that no answer saturates and none depends on its neighbours.

A linear layer y = x W + b, x [B, L, K], W [K, N], becomes

    s_x = max |x| / 127                    one scale a token, [B, L, 1]
    q_x = round(x / s_x) + 128             uint8; shared by the layers that read x (query, key and value)
    y   = s_x (s_w (q_x - 128) q_w) + b    q_w int8 [K, N], s_w [N]: one scale an output channel

and an embedding table E [V, K] becomes int8 with one scale a row: E[i] = s_i q_i.

Weights of linear layers stay within +-63. AVX2 without VNNI multiplies uint8 by int8 with VPMADDUBSW, which adds two
products in a saturating int16: 2 * 255 * 63 = 32,130 fits in 32,767, the full range of +-127 does not. Embeddings are
never multiplied as integers and have the full range. Products of two activations, in attention, stay float32, and so
does the layer that gives the logits.

One scale a token means that a token's numbers come from that token alone. onnxruntime's own `quantize_dynamic` takes
one scale for the whole batch, padding included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph import LayerCount
from toolkit.errors import ToolkitError

OPSET = 21  # the first whose QuantizeLinear takes one scale a block, here a block is one token
IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
WEIGHT_LIMIT = 63
TABLE_LIMIT = 127
INT16_MAX = 32_767
# The largest negative value of an activation function, by operator; its largest |value| is then a matter of the
# maximum alone, which saves a pass. min GELU(x) = -0.16997 at x = -0.7518.
LOWEST = {"Gelu": 0.17, "Relu": 0.0}
SMALLEST = 1e-20  # stands in for the maximum of a row of zeros: 0 / scale must not be 0 / 0


@dataclass
class Record:
    """What was quantized, for the bundle.

    Attributes:
        linear: by layer name, the largest |weight| and the largest int16 sum that it can lead to.
        embedding: by table name, its rows.
    """

    linear: dict[str, dict[str, int]] = field(default_factory=dict)
    embedding: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the bundle."""
        return {
            "opset": OPSET, "ir_version": IR_VERSION, "linear_nodes": len(self.linear),
            "embedding_nodes": len(self.embedding), "weight_limit": WEIGHT_LIMIT, "int16_limit": INT16_MAX,
            "linear": self.linear, "embedding_rows": self.embedding,
        }  # fmt: skip


def quantize_channels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round W [K, N] to int8 within +-63, W ~ q s: q [K, N] and s [N], one scale an output channel."""
    return _quantize(weight, axis=0, limit=WEIGHT_LIMIT)


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round E [V, K] to int8 within +-127, E ~ q s: q [V, K] and s [V, 1], one scale a row."""
    quantized, scale = _quantize(table, axis=1, limit=TABLE_LIMIT)
    return quantized, scale[:, None]


def _quantize(values: np.ndarray, axis: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    scale = np.maximum(np.abs(values).max(axis=axis), SMALLEST).astype(np.float32) / np.float32(limit)
    quantized = np.rint(values / np.expand_dims(scale, axis)).clip(-limit, limit)
    return quantized.astype(np.int8), scale


def check_saturation(name: str, weight: np.ndarray) -> dict[str, int]:
    """The largest int16 sum that uint8 activations can make of an int8 weight tensor: 2 * 255 * max |w|.

    Raises:
        ToolkitError: it exceeds 32,767, so that AVX2 without VNNI would give other answers.
    """
    largest = int(np.abs(weight.astype(np.int32)).max())
    worst = 2 * 255 * largest
    if worst > INT16_MAX:
        raise ToolkitError(
            f"{name}: weights up to {largest} can saturate: 2 * 255 * {largest} = {worst:,} is above {INT16_MAX:,}",
            expected=f"weights within +-{WEIGHT_LIMIT}",
        )
    return {"max_weight": largest, "max_int16": worst}


def quantize_graph(model: onnx.ModelProto, expected: LayerCount) -> tuple[onnx.ModelProto, Record]:
    """Rewrite a float32 classifier graph to int8.

    Args:
        model: from `export_fp32`, with its weights.
        expected: layers that the PyTorch model uses; all but the one that gives the logits must be found.

    Raises:
        ToolkitError: other counts than expected: an exporter changed, and the graph would be float32 in part.
    """
    rewriter = _Rewriter(model.graph)
    for node in rewriter.take_nodes():
        rewriter.rewrite(node)
    record = rewriter.record
    found = LayerCount(linear=len(record.linear) + 1, embedding=len(record.embedding))
    if found != expected:
        raise ToolkitError(
            f"the model has {expected.linear} linear layers and {expected.embedding} embedding tables, its graph "
            f"{found.linear} and {found.embedding}: int8 would leave a part of it float32, or change another",
            expected="a graph as bert, distilbert, roberta, electra and mpnet have it",
            fix="toolkit export --fp32",
        )
    return rewriter.build(), record


class _Rewriter:
    """Nodes of the new graph in order, with its constants; each quantized tensor is made once and shared."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.record = Record()
        self.nodes: list[onnx.NodeProto] = []
        self.constants = {one.name: one for one in graph.initializer}
        self.producer = {output: node.op_type for node in graph.node for output in node.output}
        self.quantized: dict[str, tuple[str, str]] = {}

    def take_nodes(self) -> list[onnx.NodeProto]:
        """The graph's nodes without those that only name a constant: exporters share equal weights by Identity."""
        same: dict[str, str] = {}
        kept = []
        for node in self.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = same.get(name, name)
            if node.op_type == "Identity" and node.input[0] in self.constants:
                same[node.output[0]] = node.input[0]
            elif node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
                self.constants[node.output[0]].name = node.output[0]
            else:
                kept.append(node)
        return kept

    def rewrite(self, node: onnx.NodeProto) -> None:
        """Append a node, or the int8 nodes that stand for it; the layer that gives the logits stays as it is."""
        if node.op_type in ("MatMul", "Gemm") and self._is_matrix(node.input[1]) and "logits" not in node.output:
            self._linear(node)
        elif node.op_type == "Gather" and self._is_matrix(node.input[0]):
            self._embedding(node)
        else:
            self.nodes.append(node)

    def build(self) -> onnx.ModelProto:
        """The new model, holding only the constants that it uses."""
        used = {name for node in self.nodes for name in node.input}
        constants = [one for name, one in self.constants.items() if name in used]
        graph = helper.make_graph(self.nodes, self.graph.name, self.graph.input, self.graph.output, constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tinybert-toolkit")

    def _is_matrix(self, name: str) -> bool:
        one = self.constants.get(name)
        return one is not None and len(one.dims) == 2 and one.data_type == TensorProto.FLOAT

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        domain = {"domain": "com.microsoft"} if operator == "MatMulIntegerToFloat" else {}
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **domain, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _embedding(self, node: onnx.NodeProto) -> None:
        table, out = node.input[0], node.output[0]
        quantized, scale = quantize_rows(numpy_helper.to_array(self.constants[table]))
        rows = self._add("Gather", [self._constant(f"{table}_int8", quantized), node.input[1]], f"{out}_int8")
        scales = self._add("Gather", [self._constant(f"{table}_scale", scale), node.input[1]], f"{out}_row_scale")
        self._add("Mul", [self._add("Cast", [rows], f"{out}_float", to=TensorProto.FLOAT), scales], out)
        self.record.embedding[_layer(node)] = len(scale)

    def _linear(self, node: onnx.NodeProto) -> None:
        """MatMul with constant weights, its bias added by the node that follows, or Gemm, with its own bias.

        MatMulIntegerToFloat applies the channel scales in the kernel that multiplies; as MatMulInteger, Cast and Mul
        they cost two more passes over the output. It takes one activation scale for the tensor, here 1.
        """
        source, weight, out = node.input[0], node.input[1], node.output[0]
        matrix = numpy_helper.to_array(self.constants[weight])
        gemm = node.op_type == "Gemm"
        if gemm and _attribute(node, "transB", 0):
            matrix = matrix.T
        quantized, channel_scale = quantize_channels(matrix)
        self.record.linear[_layer(node)] = check_saturation(_layer(node), quantized)
        activation, token_scale = self._activation(source, rank=2 if gemm else 3, width=matrix.shape[0])
        product = self._add(
            "MatMulIntegerToFloat",
            [
                activation, self._constant(f"{weight}_int8", np.ascontiguousarray(quantized)),
                self._constant("one", np.float32(1)), self._constant(f"{weight}_scale", channel_scale),
                self._constant("zero_point", np.uint8(128)),
            ],
            f"{out}_channels",
        )  # fmt: skip
        if gemm and len(node.input) == 3:
            self._add("Add", [self._add("Mul", [product, token_scale], f"{out}_tokens"), node.input[2]], out)
        else:
            self._add("Mul", [product, token_scale], out)

    def _activation(self, name: str, rank: int, width: int) -> tuple[str, str]:
        """Quantize a tensor [B, L, K] or [B, K]: its uint8 and its scales [B, L, 1] or [B, 1], by name."""
        if name in self.quantized:
            return self.quantized[name]
        axes = self._constant("last_axis", np.array([-1], dtype=np.int64))
        highest = self._add("ReduceMax", [name, axes], f"{name}_highest", keepdims=1)
        bound = LOWEST.get(self.producer.get(name, ""))
        if bound is None:
            lowest = self._add("ReduceMin", [name, axes], f"{name}_lowest", keepdims=1)
            sides = [highest, self._add("Neg", [lowest], f"{name}_negated")]
        else:
            sides = [highest]
        floor = self._constant(f"floor_{bound or SMALLEST}", np.float32(bound or SMALLEST))
        largest = self._add("Max", [*sides, floor], f"{name}_largest")
        scale = self._add("Mul", [largest, self._constant("step", np.float32(1 / 127))], f"{name}_token_scale")
        inputs = [name, scale, self._zero_points(rank)]
        found = self._add("QuantizeLinear", inputs, f"{name}_uint8", axis=rank - 1, block_size=width)
        self.quantized[name] = (found, scale)
        return self.quantized[name]

    def _zero_points(self, rank: int) -> str:
        """128 for each token, [B, L, 1] or [B, 1], made once: QuantizeLinear wants as many as there are scales."""
        name = f"zero_points_{rank}"
        if not any(name in node.output for node in self.nodes):
            shape = self._add("Shape", ["input_ids"], f"{name}_leading", start=0, end=rank - 1)
            inputs = [shape, self._constant("last_dim", np.array([1], dtype=np.int64))]
            shape = self._add("Concat", inputs, f"{name}_shape", axis=0)
            self._add("Expand", [self._constant("zero_point", np.uint8(128)), shape], name)
        return name


def _layer(node: onnx.NodeProto) -> str:
    """/bert/encoder/layer.0/attention/self/query/MatMul -> bert.encoder.layer.0.attention.self.query."""
    return ".".join(node.name.strip("/").split("/")[:-1])


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
