"""The uint8 inputs of int8 linear layers: nodes that quantize a tensor, with scales of its tokens or fixed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.calibrate import LIMIT, ZERO_POINT, Smoothing, kept_of
from export.editing import GraphEditor, attribute
from export.rounding import SMALLEST

# The largest negative value of an activation function, by operator; its largest |value| is then a matter of the
# maximum alone, which saves a pass. min GELU(x) = -0.16997 at x = -0.7518.
LOWEST = {"Gelu": 0.17, "Relu": 0.0}
# Steps below zero where calibration allows another arithmetic than quantization-aware training has: 32 of 255 hold
# -0.17 once the maximum is 1.2, and leave 223 instead of 127 above.
SHORT_ZERO_POINT = {"Gelu": 32, "Relu": 0}


@dataclass(frozen=True)
class Activation:
    """A quantized tensor, by the names of its parts, and what calibration knows of it.

    Attributes:
        integers, zero_point: q_x and z, uint8.
        scale: s_x, or 1 where tokens have scales of their own.
        token_scale: s_x [B, L, 1] or [B, 1] where tokens have scales of their own.
        smoothing: centre c and divisor d of the channels.
        exact, kept: (x - c) / d over the calibration tokens [T, K], and what the integers keep of it.
    """

    integers: str
    scale: str
    zero_point: str
    token_scale: str | None = None
    smoothing: Smoothing | None = None
    exact: np.ndarray | None = None
    kept: np.ndarray | None = None


class Activations:
    """Quantizes the tensors of a graph, each once: query, key and value read one quantization.

    Args:
        editor: the graph.
        calibration: values [T, K] of the tensors, by name, or None.
    """

    def __init__(self, editor: GraphEditor, calibration: Mapping[str, np.ndarray] | None) -> None:
        self.editor, self.calibration = editor, calibration
        self._made: dict[str, Activation] = {}

    def quantize(self, name: str, rank: int, weights: Sequence[np.ndarray]) -> Activation:
        """Quantize a tensor [B, L, K] (rank 3) or [B, K], read by matrices W [K, N]."""
        if name not in self._made:
            producer = self.editor.producer.get(name)
            operator = producer.op_type if producer is not None else ""
            seen = None if self.calibration is None else self.calibration[name]
            if seen is None or rank == 2 or operator in LOWEST:
                made = self._by_token(name, operator, rank, weights[0].shape[0], seen)
            else:
                made = self._fixed(name, operator, seen, weights)
            self._made[name] = made
        return self._made[name]

    def _fixed(self, name: str, operator: str, seen: np.ndarray, weights: Sequence[np.ndarray]) -> Activation:
        add, constant = self.editor.add, self.editor.constant
        source = name
        if operator == "LayerNormalization":
            smoothing = Smoothing.of(seen, weights)
            norm = self.editor.producer[name]
            gamma, beta = self.editor.array(norm.input[1]), self.editor.array(norm.input[2])
            scaled = constant(f"{name}_gamma", (gamma / smoothing.divisor).astype(np.float32))
            moved = constant(f"{name}_beta", ((beta - smoothing.centre) / smoothing.divisor).astype(np.float32))
            epsilon = attribute(norm, "epsilon", 1e-5)
            source = add(
                "LayerNormalization", [norm.input[0], scaled, moved], f"{name}_smooth", axis=-1, epsilon=epsilon
            )
        else:
            smoothing = Smoothing.none(seen)
        exact = smoothing.apply(seen)
        scale, zero_point = constant(f"{name}_scale", smoothing.scale), self._zero_point(ZERO_POINT)
        integers = add("QuantizeLinear", [source, scale, zero_point], f"{name}_uint8")
        return Activation(integers, scale, zero_point, None, smoothing, exact, kept_of(exact, smoothing.scale))

    def _by_token(self, name: str, operator: str, rank: int, width: int, seen: np.ndarray | None) -> Activation:
        add, constant = self.editor.add, self.editor.constant
        zero_point = ZERO_POINT if seen is None else SHORT_ZERO_POINT.get(operator, ZERO_POINT)
        levels = LIMIT if zero_point == ZERO_POINT else 255 - zero_point
        axes = constant("last_axis", np.array([-1], dtype=np.int64))
        sides = [add("ReduceMax", [name, axes], f"{name}_highest", keepdims=1)]
        floor = SMALLEST
        if operator not in LOWEST:
            lowest = add("ReduceMin", [name, axes], f"{name}_lowest", keepdims=1)
            sides.append(add("Neg", [lowest], f"{name}_negated"))
        elif LOWEST[operator]:  # the scale under which the lowest value still fits below zero
            floor = LOWEST[operator] * levels / min(zero_point, LIMIT)
        largest = add("Max", [*sides, constant(f"floor_{floor:.6g}", np.float32(floor))], f"{name}_largest")
        step = constant(f"step_{levels}", np.float32(1 / levels))
        scale = add("Mul", [largest, step], f"{name}_token_scale")
        inputs = [name, scale, self._zero_points(zero_point, rank)]
        integers = add("QuantizeLinear", inputs, f"{name}_uint8", axis=rank - 1, block_size=width)
        one, point = constant("one", np.float32(1)), self._zero_point(zero_point)
        if seen is None:
            return Activation(integers, one, point, scale)
        top = seen.max(axis=1) if operator in LOWEST else np.abs(seen).max(axis=1)
        token_scale = np.maximum(top, floor)[:, None] / levels
        smoothing = Smoothing.none(seen)
        return Activation(integers, one, point, scale, smoothing, seen, kept_of(seen, token_scale, zero_point))

    def _zero_point(self, value: int) -> str:
        return self.editor.constant(f"zero_point_{value}", np.uint8(value))

    def _zero_points(self, value: int, rank: int) -> str:
        """The zero point of each token, [B, L, 1] or [B, 1], made once: QuantizeLinear wants as many as scales."""
        name = f"zero_points_{value}_{rank}"
        if not any(name in node.output for node in self.editor.nodes):
            shape = self.editor.add("Shape", ["input_ids"], f"{name}_leading", start=0, end=rank - 1)
            inputs = [shape, self.editor.constant("last_dim", np.array([1], dtype=np.int64))]
            shape = self.editor.add("Concat", inputs, f"{name}_shape", axis=0)
            self.editor.add("Expand", [self._zero_point(value), shape], name)
        return name
