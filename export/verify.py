"""The verification of an exported graph against its PyTorch model, on real dev rows.

`GraphVerifier` runs a graph and compares it. `gates_for` turns the measurement into gates; `require_gates` raises for
those that are missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from toolkit.bundle.format import Bundle
from toolkit.bundle.manifest import Scores
from toolkit.data.datasets import Split
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.errors import GateError
from toolkit.inference.metrics import by_class, evaluate, predictions
from toolkit.inference.runtimes import Runtime, batched_logits
from toolkit.tasks import ClassScore, Task

BATCH_SIZE = 32
ALONE_ROWS = 256  # rows that are also run alone and padded: enough to show a dependence, quick on any dev set
MAX_FP32_DIFFERENCE = 1e-4  # between two float32 implementations of one model
MAX_FP16_DIFFERENCE = 0.05  # fp16 has 11 bits: a relative error of 5e-4, over a few dozen roundings in a row
MIN_FP16_AGREEMENT = 99.0
# Bounds of int8 errors as multiples of the logits' own spread. They catch single broken rows; the metric and the label
# agreement measure the loss over all rows.
MAX_P99_SPREAD = 0.5
MAX_SPREAD = 2.0
MIN_AGREEMENT = 97.0  # or 100 - 2 max_drop, or what FLIPS_PER_ERROR allows, if that is lower
# Labels flip where two classes are nearly equal, and a model that errs on more rows has more of these: 53 classes with
# 32 % errors lose 4 % of their labels to rounding and no accuracy.
FLIPS_PER_ERROR = 1 / 6
MAX_BATCH_DIFFERENCE = 1e-5  # a text alone, in a batch, and padded to the full length


@dataclass(frozen=True)
class Measurement:
    """An exported graph against its PyTorch model.

    Attributes:
        rows: dev rows compared.
        metric: the task's first metric, which the gates use.
        metrics, reference_metrics: all of the task's metrics, as fractions, of the graph and of PyTorch.
        agreement: fraction of rows with the same decision; None for regression.
        errors: fraction of rows that PyTorch decides otherwise than their label; 0 for regression.
        max_difference, p99_difference: of the largest |logit difference| of each row.
        max_batch_difference: largest |logit difference| of a row alone, or padded to the full length, against the
            same row in a batch of 32.
        logit_spread: standard deviation of PyTorch's logits over the rows, averaged over the classes.
        logits: of the graph, [n, C].
        by_class: scores of the graph by class; none for regression.
    """

    rows: int
    metric: str
    metrics: dict[str, float]
    reference_metrics: dict[str, float]
    agreement: float | None
    errors: float
    max_difference: float
    p99_difference: float
    max_batch_difference: float
    logit_spread: float
    logits: np.ndarray
    by_class: dict[str, ClassScore] = field(default_factory=dict)

    @property
    def drop(self) -> float:
        """Return the points (hundredths) of the metric lost against PyTorch; negative when the graph does better."""
        # rounded, so that 83.2 - 82.0 is 1.2 and the graph meets the bound that an error message suggests
        return round(100.0 * (self.reference_metrics[self.metric] - self.metrics[self.metric]), 6)


@dataclass(frozen=True)
class Gate:
    """A measured value and its bound: the most that is allowed, or the least where `lower` is set."""

    name: str
    value: float
    bound: float
    lower: bool = False
    fix: str = ""

    @property
    def passed(self) -> bool:
        """Return whether the value is within the bound; NaN never is."""
        return self.value >= self.bound if self.lower else self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.6g}, expected at {'least' if self.lower else 'most'} {self.bound:g}"


class GraphVerifier:
    """Compares the graphs of one export with their PyTorch model on the dev rows.

    Args:
        source: the PyTorch bundle.
        dev: its rows.
        reference: its model.
        directory: holds the tokenizer of the graphs.
        max_drop: points of the metric that int8 may lose.
        trimmed: whether the graphs have a trimmed vocabulary.
    """

    def __init__(
        self, source: Bundle, dev: Split, reference: Runtime, directory: Path, *, max_drop: float, trimmed: bool
    ) -> None:
        self.source, self.dev, self.max_drop, self.trimmed = source, dev, max_drop, trimmed
        reader, self.encoder = (TextEncoder(folder, source.max_length) for folder in (source.path, directory))
        self.encoded = self.encoder.encode(dev.texts, dev.pairs)
        self.reference_logits = batched_logits(reference, reader.encode(dev.texts, dev.pairs), BATCH_SIZE)

    def verify(self, runtime: Runtime, precision: str) -> tuple[Measurement, list[Gate]]:
        """Measure a graph and return its gates."""
        source = self.source
        measured = measure(source.task, self.dev, self.reference_logits, self.encoded, runtime, source.max_length)
        return measured, gates_for(measured, precision, self.max_drop, trimmed=self.trimmed)

    def score(self, runtime: Runtime, split: Split) -> Scores:
        """Compute the metrics of a graph, and those by class, on rows that no gate is held on."""
        task, logits = self.source.task, self.logits(runtime, split)
        return {"metrics": evaluate(task, logits, split.labels), "by_class": by_class(task, logits, split.labels)}

    def logits(self, runtime: Runtime, split: Split) -> np.ndarray:
        """Compute the logits [n, C] of a graph on n rows."""
        return batched_logits(runtime, self.encoder.encode(split.texts, split.pairs), BATCH_SIZE)


def measure(
    task: Task, dev: Split, reference_logits: np.ndarray, encoded: EncodedTexts, exported: Runtime, width: int
) -> Measurement:
    """Run the exported graph over all dev rows and compare it with the PyTorch model.

    Args:
        task: names the metrics.
        dev: n labelled rows.
        reference_logits: of the PyTorch model, from its own word pieces, [n, C].
        encoded: the rows as the exported graph's token ids.
        exported: the ONNX graph.
        width: tokens to pad to, for the check that padding changes nothing.

    Raises:
        ToolkitError: logits that are not finite.
    """
    logits = batched_logits(exported, encoded, BATCH_SIZE)
    difference = np.abs(reference_logits - logits).max(axis=1)  # [n]
    agreement, errors = None, 0.0
    if task.kind != "regression":
        decided = predictions(reference_logits, task.kind)
        agreement = _equal_rows(decided, predictions(logits, task.kind))
        errors = 1.0 - _equal_rows(decided, dev.labels)
    return Measurement(
        rows=len(dev),
        metric=task.metric,
        metrics=evaluate(task, logits, dev.labels),
        reference_metrics=evaluate(task, reference_logits, dev.labels),
        agreement=agreement,
        errors=errors,
        max_difference=float(difference.max()),
        p99_difference=float(np.percentile(difference, 99)),
        max_batch_difference=batch_difference(exported, encoded, logits, width),
        logit_spread=float(reference_logits.std(axis=0).mean()),
        logits=logits,
        by_class=by_class(task, logits, dev.labels),
    )


def _equal_rows(left: np.ndarray, right: np.ndarray) -> float:
    """Return the fraction of rows of [n] or [n, C] that are equal."""
    return float((left == right).reshape(len(left), -1).all(axis=1).mean())


def batch_difference(runtime: Runtime, encoded: EncodedTexts, batched: np.ndarray, width: int) -> float:
    """Return the largest |logit difference| of rows run alone, or alone and padded to `width`, to `batched` [n, C]."""
    chosen = np.linspace(0, len(encoded) - 1, min(ALONE_ROWS, len(encoded)), dtype=np.int64)
    largest = 0.0
    for row in chosen:
        for length in (None, width):
            alone = runtime.run(encoded.batch([int(row)], length))[0]
            largest = max(largest, float(np.abs(alone - batched[row]).max()))
    return largest


def gates_for(measured: Measurement, precision: str, max_drop: float, trimmed: bool = False) -> list[Gate]:
    """Return the gates of a precision.

    fp32 has to give the same answers, and fp16 almost the same. int8 may lose `max_drop` points of the metric, and so
    may a trimmed vocabulary in any precision. Single logits are not gated with a trimmed vocabulary: other word pieces
    are another input.
    """
    if precision != "int8" and not trimmed:
        return _equality_gates(measured, precision)
    agreement = 100.0 if measured.agreement is None else 100.0 * measured.agreement
    usual = min(MIN_AGREEMENT, 100.0 - FLIPS_PER_ERROR * 100.0 * measured.errors)
    needed = measured.drop if agreement >= usual else max(measured.drop, (100.0 - agreement) / 2.0)
    drop = (
        f"--max-drop {np.ceil(10 * needed) / 10:g} to accept it; or finish the student for int8 by toolkit "
        "distill --init STUDENT_DIR --intermediate-epochs 0 --quantization-aware; or --fp32"
    )
    gates = [Gate(f"{measured.metric} lost, points", measured.drop, max_drop, fix=drop)]
    if measured.agreement is not None:
        least = min(usual, 100.0 - 2.0 * max_drop)
        gates.append(Gate("label agreement, %", agreement, least, lower=True, fix=drop))
    if not trimmed:
        gates += [
            Gate(name, value, factor * measured.logit_spread, fix="toolkit export --fp32")
            for name, value, factor in (
                ("99th percentile of logit differences", measured.p99_difference, MAX_P99_SPREAD),
                ("largest logit difference", measured.max_difference, MAX_SPREAD),
            )
        ]
    if precision == "int8":
        name = "largest difference by batch or padding"
        gates.append(Gate(name, measured.max_batch_difference, MAX_BATCH_DIFFERENCE, fix="toolkit export --fp32"))
    return gates


def _equality_gates(measured: Measurement, precision: str) -> list[Gate]:
    fp32 = precision == "fp32"
    retry = "export again with the versions in pyproject.toml: this graph is another model" if fp32 else "--fp32"
    bound = MAX_FP32_DIFFERENCE if fp32 else MAX_FP16_DIFFERENCE
    gates = [Gate("largest logit difference", measured.max_difference, bound, fix=retry)]
    if measured.agreement is not None:
        least = 100.0 if fp32 else MIN_FP16_AGREEMENT
        gates.insert(0, Gate("label agreement, %", 100.0 * measured.agreement, least, lower=True, fix=retry))
    return gates


def require_gates(gates: Sequence[Gate], source: str) -> None:
    """Check that a graph passes all gates.

    Raises:
        GateError: lists each missed gate with its value, its bound and a fix.
    """
    missed = [gate for gate in gates if not gate.passed]
    if missed:
        raise GateError(
            f"the exported graph of {source} misses {len(missed)} of {len(gates)} gates; nothing was written\n"
            + "\n".join(f"  - {gate}" for gate in missed),
            fix="; ".join(dict.fromkeys(gate.fix for gate in missed)),
        )


def gates_json(measured: Measurement, gates: Sequence[Gate]) -> dict[str, object]:
    """Return the measurement and the verdict of each gate, for the bundle."""
    verdicts = [
        {"name": gate.name, "value": gate.value, "bound": gate.bound, "lower": gate.lower, "passed": gate.passed}
        for gate in gates
    ]
    figures = {name: value for name, value in asdict(measured).items() if name not in ("logits", "by_class")}
    return {**figures, "drop": measured.drop, "verdicts": verdicts}
