"""Proof that an exported graph still gives the answers of the PyTorch model, on real dev rows.

`measure` runs both and compares; `gates_for`, a pure function, holds the figures against the bounds; `require_gates`
refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit.data.datasets import Split
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import GateError
from toolkit.inference.runtimes import Runtime, batched_logits
from toolkit.metrics import evaluate, predictions
from toolkit.tasks import Task

BATCH_SIZE = 32
ALONE_ROWS = 256  # rows that are also run one by one and padded: enough to show a dependence, quick on any dev set
MAX_FP32_DIFFERENCE = 1e-4  # between two float32 implementations of one model
MAX_FP16_DIFFERENCE = 0.05  # fp16 keeps 11 bits: some 5e-4 of each number, over a few dozen roundings one by another
MIN_FP16_AGREEMENT = 99.0
# int8 errors are judged against how far the logits themselves spread; these bounds catch rows that broke, while the
# metric and the agreement tell what was lost on all of them.
MAX_P99_SHARE = 0.5
MAX_SHARE = 2.0
MIN_AGREEMENT = 97.0  # or what twice the drop that was accepted leaves
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
        logit_spread: standard deviation of PyTorch's logits over the rows, the mean of the classes.
    """

    rows: int
    metric: str
    metrics: dict[str, float]
    reference_metrics: dict[str, float]
    agreement: float | None
    max_difference: float
    p99_difference: float
    max_batch_difference: float
    logit_spread: float

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


def measure(
    task: Task, dev: Split, wanted: np.ndarray, encoded: EncodedTexts, exported: Runtime, width: int
) -> Measurement:
    """Run the exported graph over all dev rows and compare it with the PyTorch model.

    Args:
        task: names the metrics.
        dev: n labelled rows.
        wanted: the PyTorch model's logits [n, C], from its own word pieces.
        encoded: the rows as the exported graph's token ids.
        exported: the ONNX graph.
        width: tokens to pad to, for the check that padding changes nothing.

    Raises:
        ToolkitError: logits that are not finite.
    """
    found = batched_logits(exported, encoded, BATCH_SIZE)
    difference = np.abs(wanted - found).max(axis=1)  # [n]
    agreement = None
    if task.kind != "regression":
        same = predictions(wanted, task.kind) == predictions(found, task.kind)
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
        logit_spread=float(wanted.std(axis=0).mean()),
    )


def batch_difference(runtime: Runtime, encoded: EncodedTexts, batched: np.ndarray, width: int) -> float:
    """Largest |logit difference| of rows run alone, and alone but padded to `width`, against `batched` [n, C]."""
    chosen = np.linspace(0, len(encoded) - 1, min(ALONE_ROWS, len(encoded)), dtype=np.int64)
    largest = 0.0
    for row in chosen:
        for length in (None, width):
            alone = runtime.run(encoded.batch([int(row)], length))[0]
            largest = max(largest, float(np.abs(alone - batched[row]).max()))
    return largest


def gates_for(measured: Measurement, precision: str, max_drop: float, trimmed: bool = False) -> list[Gate]:
    """The gates of a precision.

    fp32 has to be the same model and fp16 nearly so. int8, or a trimmed vocabulary in any precision, may lose
    `max_drop` points of the metric; where words are cut into other pieces, single logits may move far.
    """
    if precision != "int8" and not trimmed:
        return _same_model(measured, precision)
    drop = (
        f"--max-drop {np.ceil(10 * measured.drop) / 10:g} to accept it; or finish the student for int8 by toolkit "
        "distill --init STUDENT_DIR --intermediate-epochs 0 --quantization-aware; or --fp32"
    )
    gates = [Gate(f"{measured.metric} lost, points", measured.drop, max_drop, fix=drop)]
    if measured.agreement is not None:
        least = min(MIN_AGREEMENT, 100.0 - 2.0 * max_drop)
        gates.append(Gate("label agreement, %", 100.0 * measured.agreement, least, lower=True, fix=drop))
    if not trimmed:
        gates += [
            Gate(name, value, share * measured.logit_spread, fix="toolkit export --fp32")
            for name, value, share in (
                ("99th percentile of logit differences", measured.p99_difference, MAX_P99_SHARE),
                ("largest logit difference", measured.max_difference, MAX_SHARE),
            )
        ]
    if precision == "int8":
        name = "largest difference by batch or padding"
        gates.append(Gate(name, measured.max_batch_difference, MAX_BATCH_DIFFERENCE, fix="toolkit export --fp32"))
    return gates


def _same_model(measured: Measurement, precision: str) -> list[Gate]:
    fp32 = precision == "fp32"
    retry = "export again with the versions in pyproject.toml: this graph is another model" if fp32 else "--fp32"
    bound = MAX_FP32_DIFFERENCE if fp32 else MAX_FP16_DIFFERENCE
    gates = [Gate("largest logit difference", measured.max_difference, bound, fix=retry)]
    if measured.agreement is not None:
        least = 100.0 if fp32 else MIN_FP16_AGREEMENT
        gates.insert(0, Gate("label agreement, %", 100.0 * measured.agreement, least, lower=True, fix=retry))
    return gates


def require_gates(gates: Sequence[Gate], source: str) -> None:
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
