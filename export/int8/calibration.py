"""Calibration: the inputs of a float32 graph's linear layers on unlabelled text, and fixed scales from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import EncodedTexts
from toolkit.inference.runtimes import OnnxRuntime

TOKENS = 8192  # enough for the correlations of 1,200 inputs; more tokens changed no result
BATCH_SIZE = 16
LIMIT = 127
ALPHA = 0.65  # share of the spread between channels, on a log scale, that goes from the inputs into the weights
ZERO_POINT = 128


def choose_rows(lengths: np.ndarray, seed: int) -> np.ndarray:
    """Draw random row numbers until the rows hold TOKENS tokens; `lengths` are the tokens of each row."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    return np.asarray(order[: int(np.searchsorted(lengths[order].cumsum(), TOKENS)) + 1])


def collect_inputs(path: Path, names: Sequence[str], encoded: EncodedTexts, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Run texts through a graph and collect the values of tensors at real tokens.

    Args:
        path: float32 graph; the file stays as it is.
        names: of tensors [B, L, K] or [B, K].
        encoded: texts.
        rows: numbers of the texts to run.

    Returns:
        Values [T, K] by name.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    watched = path.with_name("watched.onnx")
    onnx.save(model, watched, save_as_external_data=True, location=f"{watched.name}_data")
    runtime = OnnxRuntime(watched)
    collected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in sorted_batches(encoded.lengths[rows], BATCH_SIZE):
        feed = encoded.batch(rows[batch])
        real = feed["attention_mask"].astype(bool)
        values = runtime.session.run(list(names), {k: v for k, v in feed.items() if k in runtime.inputs})
        for name, value in zip(names, values, strict=True):
            collected[name].append(value[real] if value.ndim == 3 else value)
    return {name: np.concatenate(values) for name, values in collected.items()}


@dataclass(frozen=True)
class Smoothing:
    """The scales of x = d (s (q - 128)) + c: channels centred by c and divided by d, one scale s for the tensor.

    d_k = spread_k^ALPHA / strength_k^(1 - ALPHA); the rows of W are multiplied by d (SmoothQuant, arXiv 2211.10438).
    The centres are those of Outlier Suppression+ (arXiv 2304.09145).

    Attributes:
        centre, divisor: c and d, [K].
        scale: s.
    """

    centre: np.ndarray
    divisor: np.ndarray
    scale: np.float32

    @staticmethod
    def of(inputs: np.ndarray, weights: Sequence[np.ndarray]) -> Smoothing:
        """Compute the scales from inputs X [T, K] and the matrices W [K, N] that read them."""
        lowest, highest = inputs.min(axis=0), inputs.max(axis=0)
        centre = (lowest + highest) / 2
        spread = np.maximum((highest - lowest) / 2, 1e-5)
        strength = np.maximum(np.max([np.abs(matrix).max(axis=1) for matrix in weights], axis=0), 1e-5)
        divisor = spread**ALPHA / strength ** (1 - ALPHA)
        divisor /= np.exp(np.log(divisor).mean())
        return Smoothing(centre, divisor, _step(float((spread / divisor).max())))

    @staticmethod
    def none(inputs: np.ndarray) -> Smoothing:
        """Return one scale with c = 0 and d = 1, for tensors that no layer norm could centre and divide."""
        width = inputs.shape[1]
        scale = _step(float(np.abs(inputs).max()))
        return Smoothing(np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32), scale)

    def apply(self, inputs: np.ndarray) -> np.ndarray:
        """Return (x - c) / d, [T, K]."""
        return np.asarray((inputs - self.centre) / self.divisor)


def dequantized(values: np.ndarray, scale: np.ndarray | np.float32, zero_point: int = ZERO_POINT) -> np.ndarray:
    """Quantize values to uint8 by a scale and zero point, and return them as floats again."""
    return np.asarray(np.rint(values / scale).clip(-zero_point, 255 - zero_point) * scale)


def _step(largest: float) -> np.float32:
    return np.float32(max(largest, 1e-20) / LIMIT)
