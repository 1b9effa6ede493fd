"""Results of a bench: models, comparisons, scenarios, sweeps, claims, and the report that holds them all.

The names of the fields are the keys of `report.json`; `report/write.py` writes it and `report/read.py` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from toolkit.files import FileRecord
from toolkit.measurement.statistics import Ratio

RUNTIMES = {"onnxruntime": "ONNX", "pytorch": "PyTorch"}  # as reports spell them; others are spelled as they are


class Kind(StrEnum):
    """The gain that a comparison measures apart from all others."""

    CONTROL = "control"
    DISTILLATION = "distillation"
    DISTILLATION_PYTORCH = "distillation, PyTorch"
    ONNX = "onnx"
    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    TOTAL = "total"
    TASK_LENGTHS = "task lengths"
    BATCHING = "batching"
    PEER = "peer"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Size, FLOPs, accuracy and files of a model; `None` where a figure does not exist.

    Attributes:
        name, architecture, dimensions, note: as in `models.BenchModel`.
        baseline: whether the other models are measured against it.
        parameters_with_projection: with one training-only map to the baseline's width.
        flops: of one input of `flops_length` tokens.
        size_bytes: of the bundle as given, or of the fp32 ONNX file.
        part_bytes: the same by part of the model.
        score, fp32_score, teacher_score: the task's `metric` on `split`.
        digest, files: of the bundle.
    """

    name: str
    architecture: str
    dimensions: str
    note: str
    baseline: bool
    precision: str
    parameters: int
    parameters_with_projection: int | None
    flops: int | None
    flops_length: int
    fp32_onnx_bytes: int
    fp32_onnx_sha256: str
    size_bytes: int
    part_bytes: dict[str, int]
    metric: str | None
    split: str | None = "dev"  # as in reports that do not say
    score: float | None
    fp32_score: float | None
    teacher_score: float | None
    digest: str | None
    files: Mapping[str, FileRecord]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A or B of a comparison: a model in a runtime and a precision, and its score."""

    label: str
    model: str
    runtime: str
    precision: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Pairs of times of A and B, as `measurement.timing.Pairs` has them, with medians, noise and their ratio."""

    a_samples_ms: list[float]
    b_samples_ms: list[float]
    a_median_ms: float
    b_median_ms: float
    a_noise: float
    b_noise: float
    ratio: float
    low: float
    high: float
    pairs: int
    stopped: str
    warm_up_runs: list[int]
    steady: bool


@dataclass(frozen=True, kw_only=True)
class Replication:
    """A comparison in fresh processes: what they say together, and each of them."""

    ratio: float
    low: float
    high: float
    processes: int
    runs: list[Timing]


@dataclass(frozen=True, kw_only=True)
class Comparison(Timing):
    """B against A: how many times faster it is.

    Attributes:
        batch_size: B.
        length: L of every input; None where inputs have the task's own lengths.
        claim: the ratio that is promised.
        rows, source, median_tokens: of the task's texts, where they were timed.
        replicated: the same comparison in fresh processes.
    """

    kind: Kind
    batch_size: int
    length: int | None
    claim: float | None
    a: Side
    b: Side
    rows: int | None = None
    source: str | None = None
    median_tokens: float | None = None
    replicated: Replication | None = None

    def measured(self) -> tuple[Ratio, str]:
        """Return the ratio and the unit that it was counted in: "processes" where there were any, else "pairs"."""
        if again := self.replicated:
            return Ratio(again.ratio, again.low, again.high, again.processes), "processes"
        return self.paired(), "pairs"

    def paired(self) -> Ratio:
        """Return the ratio of the pairs within one process."""
        return Ratio(self.ratio, self.low, self.high, self.pairs)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A ratio that is promised, the ratio that was measured with its interval, and the verdict.

    Attributes:
        claim: what is promised, in words.
        needed: measurements that would decide, where the verdict is INCONCLUSIVE and some number would.
        reason: how the interval came about.
    """

    claim: str
    model: str
    required: float
    measured: float
    low: float
    high: float
    verdict: str
    needed: int | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Latencies of single queries in ms; a percentile is None where too few queries lie above it."""

    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    samples_ms: list[float]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario of MLPerf that a model ran: over how many texts of which source, padded to `length` or not at all."""

    scenario: str
    model: str
    score: float | None
    length: int | None
    source: str
    queries: int


@dataclass(frozen=True, kw_only=True)
class SingleStream(Scenario, Latencies):
    """One text at a time; `steady` when the warm-up had ended before time was up."""

    scenario: str = "single"
    steady: bool


@dataclass(frozen=True, kw_only=True)
class Offline(Scenario):
    """All texts at once; `texts_per_s` is the median of a few passes."""

    scenario: str = "offline"
    steady: bool
    texts_per_s: float
    samples_per_s: list[float]


@dataclass(frozen=True, kw_only=True)
class LoadResult(Latencies):
    """Requests over HTTP at one rate a second, and how many were refused."""

    rate: float
    requests: int
    refused: int


@dataclass(frozen=True, kw_only=True)
class ServerLoad(Scenario, LoadResult):
    """Requests at random moments: latencies at one rate, and the highest rate whose p99 keeps `bound_ms`."""

    scenario: str = "server"
    bound_ms: float
    highest_rate: float | None
    trials: list[LoadResult]


@dataclass(frozen=True, kw_only=True)
class LengthPoint:
    """Latency of one input of a length."""

    model: str
    length: int
    samples_ms: list[float]
    median_ms: float


@dataclass(frozen=True, kw_only=True)
class BatchPoint:
    """Inputs a second at a batch size and length."""

    model: str
    batch_size: int
    length: int
    samples_ms: list[float]
    per_s: float


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Options that were worked out."""

    length: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of `report.json`.

    Attributes:
        created: ISO 8601.
        options: of the command.
        threads: of each side.
        environment: as `measurement.environment` has it, with `others_share`, the load of other programs.
    """

    schema_version: int
    created: str
    options: Mapping[str, Any]
    resolved: Resolved
    threads: int
    environment: Mapping[str, Any]
    models: Sequence[ModelFacts]
    comparisons: Sequence[Comparison]
    claims: Sequence[Claim]
    latency_by_length: Sequence[LengthPoint]
    throughput_by_batch: Sequence[BatchPoint]
    scenarios: Sequence[Scenario]

    @property
    def baseline(self) -> ModelFacts:
        """The model that all others are measured against."""
        return next(model for model in self.models if model.baseline)

    @property
    def measured_models(self) -> list[ModelFacts]:
        """All models but the baseline."""
        return [model for model in self.models if not model.baseline]
