"""Proof that an exported graph still gives the answers of the PyTorch model, on real dev rows.

`measure` runs both and compares; `judge`, a pure function, holds the figures against the bounds; `enforce` refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit.data import Split
from toolkit.errors import GateError
from toolkit.metrics import evaluate, predicted
from toolkit.predictor import Runtime, batched_logits
from toolkit.tasks import Task
from toolkit.text import Encoded

BATCH_SIZE = 32
ALONE_ROWS = 256  # rows that are also run one by one and padded: enough to show a dependence, quick on any dev set
MAX_FP32_DIFFERENCE = 1e-4  # between two float32 implementations of one model
MAX_BATCH_DIFFERENCE = 1e-5  # a text alone, in a batch, and padded to the full length


@dataclass(frozen=True)
class Measurement:
    """An exported graph against its PyTorch model.

    Attributes:
        rows: dev rows compared.
        metric: the task's first metric, the one that gates are stated in.
        metrics, reference_metrics: all of the task's metrics, as fractions, of the graph and of PyTorch.
        agreement: share of rows with the same decision; None for regression.
        max_difference, p99_difference: of the largest |logit difference| of each row.
        max_batch_difference: largest |logit difference| of a row alone, or padded to the full length, against the
            same row in a batch of 32.
    """

    rows: int
    metric: str
    metrics: dict[str, float]
    reference_metrics: dict[str, float]
    agreement: float | None
    max_difference: float
    p99_difference: float
    max_batch_difference: float

    @property
    def drop(self) -> float:
        """Points (hundredths) of the metric lost against PyTorch; below 0 when the graph does better."""
        # rounded, so that 83.2 - 82.0 is 1.2 and the bound that a refusal suggests is met
        return round(100.0 * (self.reference_metrics[self.metric] - self.metrics[self.metric]), 6)


@dataclass(frozen=True)
class Gate:
    """A figure and what it has to hold: at most `bound`, or at least where `lower` is set."""

    name: str
    value: float
    bound: float
    lower: bool = False
    fix: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds; a figure that is no number never does."""
        return self.value >= self.bound if self.lower else self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.6g}, expected at {'least' if self.lower else 'most'} {self.bound:g}"


def measure(task: Task, dev: Split, encoded: Encoded, reference: Runtime, exported: Runtime, width: int) -> Measurement:
    """Run the PyTorch model and the exported graph over all dev rows, and compare.

    Args:
        task: names the metrics.
        dev: n labelled rows.
        encoded: the same rows as token ids.
        reference: the PyTorch model.
        exported: the ONNX graph.
        width: tokens to pad to, for the check that padding changes nothing.

    Raises:
        ToolkitError: logits that are not finite.
    """
    wanted = batched_logits(reference, encoded, BATCH_SIZE)
    found = batched_logits(exported, encoded, BATCH_SIZE)
    difference = np.abs(wanted - found).max(axis=1)  # [n]
    agreement = None
    if task.kind != "regression":
        same = predicted(wanted, task.kind) == predicted(found, task.kind)
        agreement = float(same.reshape(len(dev), -1).all(axis=1).mean())
    return Measurement(
        rows=len(dev),
        metric=task.metric,
        metrics=evaluate(task, found, dev.labels),
        reference_metrics=evaluate(task, wanted, dev.labels),
        agreement=agreement,
        max_difference=float(difference.max()),
        p99_difference=float(np.percentile(difference, 99)),
        max_batch_difference=batch_difference(exported, encoded, found, width),
    )


def batch_difference(runtime: Runtime, encoded: Encoded, batched: np.ndarray, width: int) -> float:
    """Largest |logit difference| of rows run alone, and alone but padded to `width`, against `batched` [n, C]."""
    chosen = np.linspace(0, len(encoded) - 1, min(ALONE_ROWS, len(encoded)), dtype=np.int64)
    largest = 0.0
    for row in chosen:
        for length in (None, width):
            alone = runtime.run(encoded.batch([int(row)], length))[0]
            largest = max(largest, float(np.abs(alone - batched[row]).max()))
    return largest


def judge(measured: Measurement, precision: str, max_drop: float) -> list[Gate]:
    """The gates of a precision: fp32 has to be the same model, int8 may lose `max_drop` points of the metric."""
    if precision == "fp32":
        retry = "export again with the versions in pyproject.toml: this graph is another model"
        gates = [Gate("largest logit difference", measured.max_difference, MAX_FP32_DIFFERENCE, fix=retry)]
        if measured.agreement is not None:
            gates.insert(0, Gate("label agreement, %", 100.0 * measured.agreement, 100.0, lower=True, fix=retry))
        return gates
    drop = (
        f"--max-drop {np.ceil(10 * measured.drop) / 10:g} to accept it; or finish the student for int8 by toolkit "
        "distill --init STUDENT_DIR --intermediate-epochs 0 --quantization-aware; or --fp32"
    )
    fp32 = "toolkit export --fp32"
    return [
        Gate(f"{measured.metric} lost, points", measured.drop, max_drop, fix=drop),
        Gate("largest difference by batch or padding", measured.max_batch_difference, MAX_BATCH_DIFFERENCE, fix=fp32),
    ]


def enforce(gates: Sequence[Gate], source: str) -> None:
    """Refuse a graph that misses a gate.

    Raises:
        GateError: each gate missed, with its figure, its bound and the way out.
    """
    missed = [gate for gate in gates if not gate.passed]
    if missed:
        raise GateError(
            f"the exported graph of {source} misses {len(missed)} of {len(gates)} gates; nothing was written\n"
            + "\n".join(f"  - {gate}" for gate in missed),
            fix="; ".join(dict.fromkeys(gate.fix for gate in missed)),
        )


def gates_json(measured: Measurement, gates: Sequence[Gate]) -> dict[str, Any]:
    """All figures and verdicts, for the bundle."""
    verdicts = [
        {"name": g.name, "value": g.value, "bound": g.bound, "lower": g.lower, "passed": g.passed} for g in gates
    ]
    return {**asdict(measured), "drop": measured.drop, "verdicts": verdicts}
