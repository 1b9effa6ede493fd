"""Nodes that quantize the inputs of linear layers to uint8, by one scale a token or by fixed scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from export.graph.editor import GraphEditor, attribute
from export.int8.calibration import LIMIT, ZERO_POINT, Smoothing, dequantized
from export.int8.rounding import SMALLEST

# The size of the lowest value of an activation function, by operator: min GELU(x) = -0.16997 at x = -0.7518. With a
# known minimum, the largest |value| follows from the maximum alone, which saves a pass.
LOWEST = {"Gelu": 0.17, "Relu": 0.0}
# Steps below zero with calibration; quantization-aware training has 128. 32 of 255 steps hold -0.17 once the maximum is
# 1.2, and leave 223 steps above zero instead of 127.
SHORT_ZERO_POINT = {"Gelu": 32, "Relu": 0}


@dataclass(frozen=True)
class Activation:
    """The names of a quantized tensor's parts, and its values on the calibration tokens.

    Attributes:
        integers, zero_point: q_x and z, uint8.
        scale: s_x, or 1 where each token has its own scale.
        token_scale: s_x [B, L, 1] or [B, 1] where each token has its own scale.
        smoothing: centre c and divisor d of the channels.
        exact: (x - c) / d over the calibration tokens [T, K].
        dequantized: the same after quantization [T, K].
        smooth: (x - c) / d in the graph, where a layer norm gives it.
    """

    integers: str
    scale: str
    zero_point: str
    token_scale: str | None = None
    smoothing: Smoothing | None = None
    exact: np.ndarray | None = None
    dequantized: np.ndarray | None = None
    smooth: str | None = None


class Activations:
    """Adds the quantization of each tensor once: query, key and value read the same integers.

    Args:
        editor: the graph.
        calibration: values [T, K] of the tensors, by name, or None.
    """

    def __init__(self, editor: GraphEditor, calibration: Mapping[str, np.ndarray] | None) -> None:
        self.editor, self.calibration = editor, calibration
        self._quantized: dict[str, Activation] = {}

    def all_tokens(self, name: str) -> str:
        """Return the tensor that `name` is the first token of, or `name` itself."""
        node = self._first_token_node(name)
        return name if node is None else node.input[0]

    def quantize(self, name: str, rank: int, weights: Sequence[np.ndarray]) -> Activation:
        """Quantize a tensor.

        Args:
            name: of the tensor [..., K].
            rank: its number of axes.
            weights: the matrices W [K, N] that read it.
        """
        if (node := self._first_token_node(name)) is not None:
            return self._quantize_first_token(self.quantize(node.input[0], 3, weights), node)
        if name not in self._quantized:
            producer = self.editor.producer.get(name)
            operator = producer.op_type if producer is not None else ""
            values = None if self.calibration is None else self.calibration[name]
            if values is None or operator in LOWEST:
                activation = self._by_token(name, operator, rank, weights[0].shape[0], values)
            else:
                activation = self._by_fixed_scale(name, operator, values, weights)
            self._quantized[name] = activation
        return self._quantized[name]

    def _first_token_node(self, name: str) -> onnx.NodeProto | None:
        """Return the node that cuts `name` out of the hidden states of all tokens, or None."""
        node = self.editor.producer.get(name)
        if node is None or node.op_type not in ("Slice", "Gather") or node.input[0] in self.editor.constants:
            return None
        return node

    def _quantize_first_token(self, whole: Activation, node: onnx.NodeProto) -> Activation:
        """Cut the integers and scales of the whole tensor to the first token, instead of quantizing it again."""
        scale = whole.token_scale
        return replace(
            whole, integers=self._copy_cut(node, whole.integers),
            token_scale=None if scale is None else self._copy_cut(node, scale),
        )  # fmt: skip

    def _copy_cut(self, node: onnx.NodeProto, name: str) -> str:
        """Cut tensor `name` as `node` cuts its own input; once for each tensor."""
        out = f"{name}_{node.output[0]}"
        if not any(out in added.output for added in self.editor.nodes):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = copy.output[0] = out
            copy.input[0] = name
            self.editor.nodes.append(copy)
        return out

    def _by_fixed_scale(
        self, name: str, operator: str, values: np.ndarray, weights: Sequence[np.ndarray]
    ) -> Activation:
        add, constant = self.editor.add, self.editor.constant
        source = name
        if operator == "LayerNormalization":
            smoothing = Smoothing.of(values, weights)
            norm = self.editor.producer[name]
            gamma, beta = self.editor.array(norm.input[1]), self.editor.array(norm.input[2])
            scaled = constant(f"{name}_gamma", (gamma / smoothing.divisor).astype(np.float32))
            shifted = constant(f"{name}_beta", ((beta - smoothing.centre) / smoothing.divisor).astype(np.float32))
            source = self._add_norm(norm, scaled, shifted, f"{name}_smooth")
        else:
            smoothing = Smoothing.none(values)
        exact = smoothing.apply(values)
        scale, zero_point = constant(f"{name}_scale", smoothing.scale), self._zero_point(ZERO_POINT)
        integers = add("QuantizeLinear", [source, scale, zero_point], f"{name}_uint8")
        return Activation(
            integers, scale, zero_point, None, smoothing, exact, dequantized(exact, smoothing.scale),
            smooth=None if source == name else source,
        )  # fmt: skip

    def restore(self, name: str) -> tuple[str, np.ndarray] | None:
        """Add d ((x - c) / d) for a tensor x that was quantized centred and divided.

        Returns:
            The name of the product, and c [K]; None where the tensor was quantized as it is.
        """
        node = self._first_token_node(name)
        whole = self._quantized.get(self.all_tokens(name))
        if whole is None or whole.smooth is None or whole.smoothing is None:
            return None
        source = whole.smooth if node is None else self._copy_cut(node, whole.smooth)
        divisor = self.editor.constant(f"{self.all_tokens(name)}_divisor", whole.smoothing.divisor.astype(np.float32))
        return self.editor.add("Mul", [source, divisor], f"{name}_restored"), whole.smoothing.centre

    def with_bias(self, name: str, bias: np.ndarray) -> str | None:
        """Add a second layer norm that gives the output of the first one plus a bias [K].

        Returns:
            The name of its output; None without calibration, or where `name` is no layer norm's output.
        """
        norm = self.editor.producer.get(name)
        if self.calibration is None or norm is None or norm.op_type != "LayerNormalization":
            return None
        shifted = (self.editor.array(norm.input[2]) + bias).astype(np.float32)
        return self._add_norm(norm, norm.input[1], self.editor.constant(f"{name}_beta_bias", shifted), f"{name}_biased")

    def _add_norm(self, norm: onnx.NodeProto, gamma: str, beta: str, out: str) -> str:
        """Add a layer norm of the input of `norm`, with other weights."""
        epsilon = attribute(norm, "epsilon", 1e-5)
        return self.editor.add("LayerNormalization", [norm.input[0], gamma, beta], out, axis=-1, epsilon=epsilon)

    def _by_token(self, name: str, operator: str, rank: int, width: int, values: np.ndarray | None) -> Activation:
        add, constant = self.editor.add, self.editor.constant
        zero_point = ZERO_POINT if values is None else SHORT_ZERO_POINT.get(operator, ZERO_POINT)
        levels = LIMIT if zero_point == ZERO_POINT else 255 - zero_point
        axes = constant("last_axis", np.array([-1], dtype=np.int64))
        sides = [add("ReduceMax", [name, axes], f"{name}_highest", keepdims=1)]
        floor = SMALLEST
        if operator not in LOWEST:
            lowest = add("ReduceMin", [name, axes], f"{name}_lowest", keepdims=1)
            sides.append(add("Neg", [lowest], f"{name}_negated"))
        elif LOWEST[operator]:  # with a smaller maximum, the lowest value would not fit below zero
            floor = LOWEST[operator] * levels / min(zero_point, LIMIT)
        largest = add("Max", [*sides, constant(f"floor_{floor:.6g}", np.float32(floor))], f"{name}_largest")
        step = constant(f"step_{levels}", np.float32(1 / levels))
        scale = add("Mul", [largest, step], f"{name}_token_scale")
        inputs = [name, scale, self._zero_points(zero_point, scale)]
        integers = add("QuantizeLinear", inputs, f"{name}_uint8", axis=rank - 1, block_size=width)
        unit, point = constant("one", np.float32(1)), self._zero_point(zero_point)
        if values is None:
            return Activation(integers, unit, point, scale)
        maximum = values.max(axis=1) if operator in LOWEST else np.abs(values).max(axis=1)
        token_scale = np.maximum(maximum, floor)[:, None] / levels
        smoothing = Smoothing.none(values)
        return Activation(integers, unit, point, scale, smoothing, values, dequantized(values, token_scale, zero_point))

    def _zero_point(self, value: int) -> str:
        return self.editor.constant(f"zero_point_{value}", np.uint8(value))

    def _zero_points(self, value: int, scale: str) -> str:
        """Add one zero point a token: QuantizeLinear takes as many zero points as scales."""
        huge = self.editor.constant("huge", np.float32(1e30))  # every scale / 1e30 rounds to 0
        return self.editor.add("QuantizeLinear", [scale, huge, self._zero_point(value)], f"{scale}_zero_points")
