"""Int8 graphs of shapes with random weights, and the latency of runtimes at given lengths of text.

A latency is that of an idle machine: the fastest of ROUNDS runs, because other programs only ever make a run slower. A
graph of one thread is timed by the clock of its thread, which stands still while other programs run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx

from export.int8.calibration import collect_inputs
from export.int8.quantize import linear_inputs, quantize_graph
from export.onnx_export import count_layers, export_fp32, save_graph
from toolkit.benchmarking.random_models import MODEL, build
from toolkit.console import progress
from toolkit.data.tokenization import EncodedTexts
from toolkit.inference.runtimes import OnnxRuntime, Runtime
from toolkit.measurement.timing import measure_in_turn
from toolkit.models.student import Shape

VOCABULARY = 2048  # word pieces of a graph that is timed: no run reads more of the table than its text's rows
CALIBRATION_TOKENS = 64  # fixed scales make another graph than scales of each token do; their values cost nothing
ROUNDS = 15
TEXTS = 16  # lengths that stand for the distribution of a data set's


class TimedRecord(TypedDict):
    """A measured shape as JSON has it: keys are text."""

    shape: str
    ms: dict[str, float]
    size_bytes: int


@dataclass(frozen=True)
class Timed:
    """A shape as it was measured.

    Attributes:
        shape: of the encoder.
        ms: time of one text by its length in tokens.
        size_bytes: of the int8 graph with VOCABULARY word pieces.
    """

    shape: Shape
    ms: dict[int, float]
    size_bytes: int

    def to_dict(self) -> TimedRecord:
        """Give plain values for JSON."""
        return {
            "shape": str(self.shape), "ms": {str(length): ms for length, ms in self.ms.items()},
            "size_bytes": self.size_bytes,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: TimedRecord) -> Timed:
        """Read what `to_dict` gave."""
        ms = {int(length): ms for length, ms in record["ms"].items()}
        return cls(Shape.parse(record["shape"]), ms, record["size_bytes"])


def typical_lengths(lengths: np.ndarray) -> list[int]:
    """Return TEXTS lengths that are distributed as those of n texts [n] are, each at least 2: the special tokens."""
    middles = (np.arange(TEXTS) + 0.5) / TEXTS
    return [max(2, int(length)) for length in np.quantile(lengths, middles).round()]


def latency_ms(runtime: Runtime, lengths: Sequence[int], threads: int) -> float:
    """Measure the mean time of a text, in ms, over texts of these lengths."""
    ms = time_in_turn({"": runtime}, sorted(set(lengths)), threads)[""]
    return float(np.mean([ms[length] for length in lengths]))


def relative_latency(
    runtime: Runtime, shape: Shape, config: Mapping[str, Any], lengths: Sequence[int], threads: int
) -> float:
    """Measure the time of a text beside that of a graph of the same shape with random weights; return the ratio.

    Machines are faster in one half of an hour than in the other: a ratio of two that run in turn stays.

    Args:
        runtime: of a student of this shape.
        shape: of the encoder.
        config: of a student's `config.json`, whose sizes are replaced.
        lengths: tokens of the texts.
        threads: of a graph.
    """
    with tempfile.TemporaryDirectory() as folder, random_graph(config, shape, Path(folder)) as path:
        like = OnnxRuntime(path, threads=threads, spinning="running")
        ms = time_in_turn({"": runtime, "like": like}, sorted(set(lengths)), threads)
    return sum(ms[""][length] for length in lengths) / sum(ms["like"][length] for length in lengths)


def time_in_turn(runtimes: Mapping[str, Runtime], lengths: Sequence[int], threads: int) -> dict[str, dict[int, float]]:
    """Time each runtime at each length in turn; return the ms of one text by name and length."""
    programs = {
        f"{name} {length}": partial(runtime.run, _text(length))
        for name, runtime in runtimes.items() for length in lengths
    }  # fmt: skip
    times = measure_in_turn(programs, ROUNDS, time.thread_time_ns if threads == 1 else time.perf_counter_ns)
    return {name: {length: min(times[f"{name} {length}"]) for length in lengths} for name in runtimes}


def time_shapes(
    config: Mapping[str, Any], shapes: Sequence[Shape], lengths: Sequence[int], threads: int
) -> list[Timed]:
    """Write each shape as an int8 graph with random weights and time them in turn.

    Args:
        config: of a student's `config.json`, whose sizes are replaced.
        shapes: of the students.
        lengths: tokens of the texts.
        threads: of a graph.

    Raises:
        ToolkitError: the architecture cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder, progress("graphs to time", len(shapes)) as bar:
        runtimes, sizes = {}, {}
        for shape in shapes:
            with random_graph(config, shape, Path(folder)) as path:
                sizes[shape] = path.stat().st_size
                runtimes[str(shape)] = OnnxRuntime(path, threads=threads, spinning="running")
            bar.advance()
        ms = time_in_turn(runtimes, lengths, threads)
    return [Timed(shape, ms[str(shape)], sizes[shape]) for shape in shapes]


@contextmanager
def random_graph(config: Mapping[str, Any], shape: Shape, workdir: Path) -> Iterator[Path]:
    """Write the int8 graph of a shape as `toolkit export` does, with random weights rounded each alone."""
    model = build({**config, **sizes_of(shape), "vocab_size": VOCABULARY}, attention="eager")
    ids = np.arange(CALIBRATION_TOKENS) % VOCABULARY
    text = EncodedTexts([ids], [np.zeros_like(ids)], np.zeros(1, dtype=bool), pad_id=0)
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        fp32, int8 = Path(folder) / MODEL, Path(folder) / f"int8-{MODEL}"
        export_fp32(model, fp32)
        graph = onnx.load(fp32)
        calibration = collect_inputs(fp32, linear_inputs(graph), text, np.zeros(1, dtype=np.int64))
        save_graph(quantize_graph(graph, count_layers(model), calibration, nearest=True)[0], int8)
        yield int8


def sizes_of(shape: Shape) -> dict[str, int]:
    """Give a shape as entries of a `config.json`."""
    return {
        "num_hidden_layers": shape.layers, "hidden_size": shape.hidden, "intermediate_size": shape.ffn,
        "num_attention_heads": shape.heads,
    }  # fmt: skip


def _text(length: int) -> dict[str, np.ndarray]:
    """Return a batch of one text, [1, L] by name; its pieces are the first ones of the vocabulary."""
    ids = (np.arange(length) % CALIBRATION_TOKENS)[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
