"""What a float32 graph's linear layers read on unlabelled text, and the fixed scales that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import EncodedTexts
from toolkit.inference.runtimes import OnnxRuntime

TOKENS = 8192  # enough to know 1,200 inputs' correlations; more changed no digit that matters
BATCH_SIZE = 16
LIMIT = 127
ALPHA = 0.65  # how much of the spread between channels the divisors take; the rest is left to the weights
ZERO_POINT = 128


def choose_rows(lengths: np.ndarray, seed: int) -> np.ndarray:
    """Random rows of a split, by number, until they hold TOKENS tokens."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    return np.asarray(order[: int(np.searchsorted(lengths[order].cumsum(), TOKENS)) + 1])


def collect_inputs(path: Path, names: Sequence[str], encoded: EncodedTexts, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values [T, K] of tensors [B, L, K] or [B, K] of a graph, by name, over the real tokens of the rows chosen.

    Args:
        path: float32 graph, which is not changed.
        names: tensors to watch.
        encoded: texts.
        rows: numbers of the texts to run.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    watched = path.with_name("watched.onnx")
    onnx.save(model, watched, save_as_external_data=True, location=f"{watched.name}_data")
    runtime = OnnxRuntime(watched)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in sorted_batches(encoded.lengths[rows], BATCH_SIZE):
        feed = encoded.batch(rows[batch])
        real = feed["attention_mask"].astype(bool)
        values = runtime.session.run(list(names), {k: v for k, v in feed.items() if k in runtime.inputs})
        for name, value in zip(names, values, strict=True):
            found[name].append(value[real] if value.ndim == 3 else value)
    return {name: np.concatenate(values) for name, values in found.items()}


@dataclass(frozen=True)
class Smoothing:
    """x = d (s (q - 128)) + c: one scale s for the tensor, after each channel was centred by c and divided by d.

    d takes BALANCE of the spread between channels, on the logarithmic scale, and leaves the rest to the weights, whose
    rows are multiplied by it (SmoothQuant, arXiv 2211.10438, where it is alpha; the centres are those of Outlier
    Suppression+, arXiv 2304.09145).

    Attributes:
        centre, divisor: c and d, [K].
        scale: s.
    """

    centre: np.ndarray
    divisor: np.ndarray
    scale: np.float32

    @staticmethod
    def of(inputs: np.ndarray, weights: Sequence[np.ndarray]) -> Smoothing:
        """From inputs X [T, K] and the matrices W [K, N] that read them."""
        lowest, highest = inputs.min(axis=0), inputs.max(axis=0)
        centre = (lowest + highest) / 2
        spread = np.maximum((highest - lowest) / 2, 1e-5)
        strength = np.maximum(np.max([np.abs(one).max(axis=1) for one in weights], axis=0), 1e-5)
        divisor = spread**ALPHA / strength ** (1 - ALPHA)
        divisor /= np.exp(np.log(divisor).mean())
        return Smoothing(centre, divisor, _step(float((spread / divisor).max())))

    @staticmethod
    def none(inputs: np.ndarray) -> Smoothing:
        """One scale for all channels, where nothing before the tensor could take c and d."""
        width = inputs.shape[1]
        scale = _step(float(np.abs(inputs).max()))
        return Smoothing(np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32), scale)

    def apply(self, inputs: np.ndarray) -> np.ndarray:
        """(x - c) / d, [T, K]."""
        return np.asarray((inputs - self.centre) / self.divisor)


def dequantized(values: np.ndarray, scale: np.ndarray | np.float32, zero_point: int = ZERO_POINT) -> np.ndarray:
    """What uint8 with this scale and zero point keeps of the values."""
    return np.asarray(np.rint(values / scale).clip(-zero_point, 255 - zero_point) * scale)


def _step(largest: float) -> np.float32:
    return np.float32(max(largest, 1e-20) / LIMIT)
