"""The uint8 inputs of int8 linear layers: nodes that quantize a tensor, with scales of its tokens or fixed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from export.graph.editor import GraphEditor, attribute
from export.int8.calibration import LIMIT, ZERO_POINT, Smoothing, dequantized
from export.int8.rounding import SMALLEST

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
        smooth: (x - c) / d in the graph, where a layer norm gives it.
    """

    integers: str
    scale: str
    zero_point: str
    token_scale: str | None = None
    smoothing: Smoothing | None = None
    exact: np.ndarray | None = None
    kept: np.ndarray | None = None
    smooth: str | None = None


class Activations:
    """Quantizes the tensors of a graph, each once: query, key and value read one quantization.

    Args:
        editor: the graph.
        calibration: values [T, K] of the tensors, by name, or None.
    """

    def __init__(self, editor: GraphEditor, calibration: Mapping[str, np.ndarray] | None) -> None:
        self.editor, self.calibration = editor, calibration
        self._made: dict[str, Activation] = {}

    def whole(self, name: str) -> str:
        """The tensor that `name` is the first token of, or itself."""
        node = self._cutter(name)
        return name if node is None else node.input[0]

    def quantize(self, name: str, rank: int, weights: Sequence[np.ndarray]) -> Activation:
        """Quantize a tensor [..., K] of this rank, read by matrices W [K, N]."""
        if (node := self._cutter(name)) is not None:
            return self._cut(self.quantize(node.input[0], 3, weights), node)
        if name not in self._made:
            producer = self.editor.producer.get(name)
            operator = producer.op_type if producer is not None else ""
            seen = None if self.calibration is None else self.calibration[name]
            if seen is None or operator in LOWEST:
                made = self._by_token(name, operator, rank, weights[0].shape[0], seen)
            else:
                made = self._fixed(name, operator, seen, weights)
            self._made[name] = made
        return self._made[name]

    def _cutter(self, name: str) -> onnx.NodeProto | None:
        """The node that takes `name`, hidden states of the first token, out of those of all tokens."""
        node = self.editor.producer.get(name)
        if node is None or node.op_type not in ("Slice", "Gather") or node.input[0] in self.editor.constants:
            return None
        return node

    def _cut(self, whole: Activation, node: onnx.NodeProto) -> Activation:
        """What was quantized is cut, and not quantized anew."""
        scale = whole.token_scale
        return replace(
            whole, integers=self._copy(node, whole.integers),
            token_scale=None if scale is None else self._copy(node, scale),
        )  # fmt: skip

    def _copy(self, node: onnx.NodeProto, name: str) -> str:
        """A cut like another, of this tensor; made once."""
        out = f"{name}_{node.output[0]}"
        if not any(out in one.output for one in self.editor.nodes):
            new = onnx.NodeProto()
            new.CopyFrom(node)
            new.name = new.output[0] = out
            new.input[0] = name
            self.editor.nodes.append(new)
        return out

    def _fixed(self, name: str, operator: str, seen: np.ndarray, weights: Sequence[np.ndarray]) -> Activation:
        add, constant = self.editor.add, self.editor.constant
        source = name
        if operator == "LayerNormalization":
            smoothing = Smoothing.of(seen, weights)
            norm = self.editor.producer[name]
            gamma, beta = self.editor.array(norm.input[1]), self.editor.array(norm.input[2])
            scaled = constant(f"{name}_gamma", (gamma / smoothing.divisor).astype(np.float32))
            moved = constant(f"{name}_beta", ((beta - smoothing.centre) / smoothing.divisor).astype(np.float32))
            source = self._norm(norm, scaled, moved, f"{name}_smooth")
        else:
            smoothing = Smoothing.none(seen)
        exact = smoothing.apply(seen)
        scale, zero_point = constant(f"{name}_scale", smoothing.scale), self._zero_point(ZERO_POINT)
        integers = add("QuantizeLinear", [source, scale, zero_point], f"{name}_uint8")
        kept = dequantized(exact, smoothing.scale)
        return Activation(integers, scale, zero_point, None, smoothing, exact, kept, None if source == name else source)

    def restored(self, name: str) -> tuple[str, np.ndarray] | None:
        """A tensor that was quantized centred and divided, from what it is then: d ((x - c) / d), and c.

        None: it is no such tensor.
        """
        node = self._cutter(name)
        whole = self._made.get(self.whole(name))
        if whole is None or whole.smooth is None or whole.smoothing is None:
            return None
        source = whole.smooth if node is None else self._copy(node, whole.smooth)
        divisor = self.editor.constant(f"{self.whole(name)}_divisor", whole.smoothing.divisor.astype(np.float32))
        return self.editor.add("Mul", [source, divisor], f"{name}_restored"), whole.smoothing.centre

    def biased(self, name: str, bias: np.ndarray) -> str | None:
        """The output of a layer norm with a bias [K] added to it; None: it is none, or its own values are known to
        no calibration."""
        norm = self.editor.producer.get(name)
        if self.calibration is None or norm is None or norm.op_type != "LayerNormalization":
            return None
        moved = self.editor.constant(f"{name}_beta_bias", (self.editor.array(norm.input[2]) + bias).astype(np.float32))
        return self._norm(norm, norm.input[1], moved, f"{name}_biased")

    def _norm(self, norm: onnx.NodeProto, gamma: str, beta: str, out: str) -> str:
        """A layer norm like another, with its own weights."""
        epsilon = attribute(norm, "epsilon", 1e-5)
        return self.editor.add("LayerNormalization", [norm.input[0], gamma, beta], out, axis=-1, epsilon=epsilon)

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
        inputs = [name, scale, self._zero_points(zero_point, scale)]
        integers = add("QuantizeLinear", inputs, f"{name}_uint8", axis=rank - 1, block_size=width)
        one, point = constant("one", np.float32(1)), self._zero_point(zero_point)
        if seen is None:
            return Activation(integers, one, point, scale)
        top = seen.max(axis=1) if operator in LOWEST else np.abs(seen).max(axis=1)
        token_scale = np.maximum(top, floor)[:, None] / levels
        smoothing = Smoothing.none(seen)
        return Activation(integers, one, point, scale, smoothing, seen, dequantized(seen, token_scale, zero_point))

    def _zero_point(self, value: int) -> str:
        return self.editor.constant(f"zero_point_{value}", np.uint8(value))

    def _zero_points(self, value: int, scale: str) -> str:
        """The zero point of each token: QuantizeLinear wants as many as scales."""
        huge = self.editor.constant("huge", np.float32(1e30))  # of which every scale is a share that rounds to 0
        return self.editor.add("QuantizeLinear", [scale, huge, self._zero_point(value)], f"{scale}_zero_points")
