"""The price list of a machine: what shapes cost in milliseconds and in bytes, without building them.

A few shapes are measured (`timing.py`). The latency of the others is a sum of terms, each with a price that is at least
0 and least squares of the relative errors finds. For L layers of width d, feed-forward width F, A heads and a text of n
tokens, with d and F rounded up to whole grains of the int8 kernels, and the last layer computed for the first token
alone:

    1, L                                  a call, and the nodes of a layer
    (L-1) n (4 d^2 + 2 d F) + n 2 d^2     products with weights
    (L-1) n^2 d                           products between tokens
    (L-1) n^2 A                           softmax
    L n d, (L-1) n F                      passes over states and neurons
    L (4 d^2 + 2 d F)                     weights that are read once a call

The bytes of a graph are those of its numbers, which are counted, and of its nodes, which grow with L and the widths as
the measured files say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import qmc

from export.int8.embeddings import COMMON_ROWS, FINE_ROWS
from toolkit import __version__
from toolkit.benchmarking.random_models import cache_directory
from toolkit.compression.shapes import GRAIN, linear_weights
from toolkit.compression.timing import VOCABULARY, Timed, time_shapes
from toolkit.config.export import EMBEDDING_BITS
from toolkit.console import echo
from toolkit.files import atomic_file, canonical_json
from toolkit.measurement.environment import environment, tool_versions
from toolkit.models.student import Shape

MEASURED = 20  # shapes
MOST_WEIGHTS = 12_000_000  # of a shape that is measured: larger ones take long to build, and follow the same sum
LENGTH_GRAIN = 8
LOOKUP_BYTES = 2_450  # of the nodes that look up a table of few bits; 2 bits have two such tables
LENGTHS = (0.05, 0.35, 0.7, 0.97)  # quantiles of the data's lengths that are measured


@dataclass(frozen=True)
class Errors:
    """Relative errors of predicted latencies, as fractions."""

    median: float
    largest: float

    @classmethod
    def of(cls, predicted: Sequence[float], measured: Sequence[float]) -> Errors:
        """Compare predictions with measurements."""
        errors = np.abs(np.array(predicted) / np.array(measured) - 1)
        return cls(float(np.median(errors)), float(errors.max()))


@dataclass(frozen=True)
class PriceList:
    """What shapes cost on this machine.

    Attributes:
        timed: the shapes that were measured.
        config: of a student's `config.json`: vocabulary, positions, token types and labels.
    """

    timed: tuple[Timed, ...]
    config: Mapping[str, Any]

    @cached_property
    def prices(self) -> np.ndarray:
        """Milliseconds of each of `terms`, none below 0."""
        rows = [(terms(timed.shape, length), ms) for timed in self.timed for length, ms in timed.ms.items()]
        counts, ms = np.array([row for row, _ in rows]), np.array([ms for _, ms in rows])
        scale = counts.max(axis=0)
        scale[scale == 0] = 1.0
        return np.asarray(nnls(counts / scale / ms[:, None], np.ones(len(ms)))[0] / scale)

    def latency_ms(self, shape: Shape, lengths: Sequence[int]) -> float:
        """Predict the mean time of a text in ms, over texts of these lengths."""
        return float(np.mean([terms(shape, length) @ self.prices for length in lengths]))

    def size_bytes(self, shape: Shape, bits: int = 8, config: Mapping[str, Any] | None = None) -> int:
        """Predict the bytes of the int8 graph.

        Args:
            shape: of the encoder.
            bits: of each number of the word embeddings.
            config: of a student whose vocabulary is trimmed; None for `self.config`.
        """
        lookups = {8: 0, 4: 1, 2: 2}[bits]
        nodes = float(np.array(_node_terms(shape)) @ self._node_bytes) + lookups * LOOKUP_BYTES
        return number_bytes(config or self.config, shape, bits) + round(nodes)

    @cached_property
    def errors(self) -> Errors:
        """Errors of the latency of each measured shape as the other ones predict it, over its lengths."""
        others = [
            replace(self, timed=tuple(other for other in self.timed if other is not timed)) for timed in self.timed
        ]
        predicted = [
            rest.latency_ms(timed.shape, list(timed.ms)) for rest, timed in zip(others, self.timed, strict=True)
        ]
        return Errors.of(predicted, [float(np.mean(list(timed.ms.values()))) for timed in self.timed])

    @cached_property
    def _node_bytes(self) -> np.ndarray:
        config = {**self.config, "vocab_size": VOCABULARY}
        rest = [timed.size_bytes - number_bytes(config, timed.shape) for timed in self.timed]
        return np.asarray(np.linalg.lstsq(np.array([_node_terms(timed.shape) for timed in self.timed]), rest)[0])


def terms(shape: Shape, length: int) -> np.ndarray:
    """Count what a text of so many tokens costs in a shape, term by term as the module lists them."""
    d, f = (-(-width // GRAIN) * GRAIN for width in (shape.hidden, shape.ffn))
    n, layers, whole = length, shape.layers, shape.layers - 1
    products = whole * n * (4 * d * d + 2 * d * f) + n * 2 * d * d
    weights = layers * (4 * d * d + 2 * d * f)
    return np.array(
        [1, layers, products, whole * n * n * d, whole * n * n * shape.heads, layers * n * d, whole * n * f, weights],
        dtype=float,
    )


def number_bytes(config: Mapping[str, Any], shape: Shape, bits: int = 8) -> int:
    """Count the bytes of the numbers of an int8 graph, but for its layer norms.

    One byte for each weight of the layers, the pooler and the tables; two for the scale of a table's row, eight for the
    number of a position; four for the scale and the bias of each output of a layer, and for each weight of the
    classifier. Word embeddings of few bits have rows of more bits for frequent pieces beside them, a number for each
    piece that says which, and four bytes for each number that one of the 256 bytes can hold.
    """
    d, outputs = shape.hidden, shape.layers * (5 * shape.hidden + shape.ffn) + shape.hidden
    words, positions = config["vocab_size"], config["max_position_embeddings"]
    rest = positions + (config.get("type_vocab_size") or 0)
    tables = rest * (d + 2) + 8 * positions + words * (d * bits // 8 + 2)
    if bits < 8:
        tables += words + (min(words, FINE_ROWS) + 1) * (d + 2) + 4 * 256 * (8 // bits)
    if bits == 2:
        common = min(words, COMMON_ROWS) - min(words, FINE_ROWS)
        tables += 2 * words + (common + 1) * (d // 4 + 2)
    labels = len(config.get("id2label") or (0, 1))
    return int(tables + linear_weights(shape) + d * d + 8 * outputs + 4 * d * labels)


def possible_bits(shape: Shape) -> list[int]:
    """List the bits that the word embeddings of a shape can have: their rows fill whole bytes."""
    return [bits for bits in EMBEDDING_BITS if shape.hidden * bits % 8 == 0]


def measured_price_list(
    config: Mapping[str, Any], grid: Sequence[Shape], lengths: np.ndarray, threads: int
) -> PriceList:
    """Measure some shapes of a grid at some lengths of the data, or read what an earlier command measured here.

    Args:
        config: of a student's `config.json`.
        grid: the shapes that will be asked for.
        lengths: of the data's texts in tokens, [n].
        threads: of a graph.
    """
    shapes, marks = design(grid), marked_lengths(lengths)
    stored = _cache_file(config, shapes, marks, threads)
    if stored.is_file():
        echo(f"prices of {len(shapes)} shapes on this CPU, as they were measured before: {stored}")
        return PriceList(tuple(map(Timed.from_dict, json.loads(stored.read_bytes()))), config)
    echo(f"measuring {len(shapes)} shapes on this CPU, texts of {', '.join(map(str, marks))} tokens")
    timed = tuple(time_shapes(config, shapes, marks, threads))
    stored.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(stored, fix="another XDG_CACHE_HOME") as partial:
        partial.write_bytes(canonical_json([entry.to_dict() for entry in timed]))
    return PriceList(timed, config)


def design(grid: Sequence[Shape]) -> list[Shape]:
    """Choose the shapes to measure: the corners of the grid and points that fill it (Halton's sequence)."""
    small = [shape for shape in grid if linear_weights(shape) <= MOST_WEIGHTS] or [min(grid, key=linear_weights)]
    if len(small) <= MEASURED:
        return list(small)
    axes = np.array([(shape.layers, np.log(shape.hidden), shape.ffn / shape.hidden) for shape in small], dtype=float)
    axes = (axes - axes.min(axis=0)) / np.maximum(np.ptp(axes, axis=0), 1e-9)
    points = qmc.Halton(3, scramble=False).random(100 * MEASURED)
    chosen = {min(range(len(small)), key=lambda i: linear_weights(small[i])): None}
    chosen[max(range(len(small)), key=lambda i: linear_weights(small[i]))] = None
    for point in points:
        if len(chosen) == MEASURED:
            break
        chosen[int(np.square(axes - point).sum(axis=1).argmin())] = None
    return [small[i] for i in chosen]


def marked_lengths(lengths: np.ndarray) -> list[int]:
    """Choose the lengths to measure at: few, rounded up, so that much the same data finds the same price list."""
    rounded = np.ceil(np.quantile(lengths, LENGTHS) / LENGTH_GRAIN) * LENGTH_GRAIN
    return sorted({int(length) for length in np.minimum(rounded, lengths.max())})  # a model has positions for no more


def _node_terms(shape: Shape) -> list[int]:
    return [1, shape.layers, shape.hidden, shape.layers * shape.hidden]


def _cache_file(config: Mapping[str, Any], shapes: Sequence[Shape], lengths: Sequence[int], threads: int) -> Path:
    architecture = {name: config.get(name) for name in ("model_type", "hidden_act", "max_position_embeddings")}
    parts = {
        "cpu": environment()["cpu"], "toolkit": __version__, "versions": tool_versions(), "threads": threads,
        "shapes": list(map(str, shapes)), "lengths": list(lengths), **architecture,
        "labels": len(config.get("id2label") or ()), "types": config.get("type_vocab_size"),
    }  # fmt: skip
    key = hashlib.sha256(canonical_json(parts)).hexdigest()[:16]
    return cache_directory() / f"prices-{key}.json"
