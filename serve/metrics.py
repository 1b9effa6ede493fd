"""The metrics of a server; names and buckets are text-embeddings-inference's, so that its dashboards fit."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serve.exceptions import ErrorType

SECONDS = [0.00001 * 1.5**power for power in range(1, 36)]  # 15 microseconds to 15 seconds
SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own: the directory in which processes add up
COUNTER = re.compile(
    rb"^((?:# (?:HELP|TYPE) )?te_(?:request|predict|fallback|audit)"
    rb"_(?:count|success|failure|unsure|inputs|label))_total\b",
    re.MULTILINE,
)
DURATION = re.compile(rb"^.*\bte_request_(?:\w+_)?duration.*\n", re.MULTILINE)
FAILURES: dict[ErrorType, str] = {
    "Empty": "validation", "Validation": "validation", "Tokenizer": "tokenization", "Backend": "inference",
    "Overloaded": "overloaded", "Unhealthy": "unhealthy", "Timeout": "timeout", "Unauthorized": "unauthorized",
    "Unsure": "unsure",
}  # fmt: skip
# of what the first model is unsure of: the fallback answered, took too long, failed, was left alone after failures
# (open), was asked its share already, or was busy
Outcome = Literal["answered", "timeout", "error", "open", "share", "busy"]
# of what the first model is sure of: both models gave the same label, or not; or the fallback failed, or was not asked:
# left alone after failures, its share used up, busy, too much waiting (full), or the server ends (drain)
Audited = Literal["agreed", "disagreed", "timeout", "error", "open", "share", "busy", "full", "drain"]
CONFIDENCES = [*(tenth / 10 for tenth in range(1, 10)), 0.95, 0.98, 0.99, 0.999, 1.0]
Value = TypeVar("Value", bound=str)


class Metrics:
    """The metrics of one server, in a registry of its own. Every request counts once, and once more by its outcome.

    Durations are of answered requests: in total, and of their slowest input in tokenization, queue and model. Durations
    and batch sizes have a label for the model; counts have none, since many refused requests name no model.
    Where PROMETHEUS_MULTIPROC_DIR is set, `render` shows the sum over all processes that share that directory.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        methods, reasons = ("single", "batch"), (*dict.fromkeys(FAILURES.values()), "dropped")
        self.requests = self._counters("te_request_count", "Requests to classify", "method", (*methods, "invalid"))
        self.successes = self._counters("te_request_success", "Requests answered", "method", methods)
        self.inputs = Counter("te_predict_count", "Inputs of accepted requests", registry=registry)
        self.answered_inputs = Counter("te_predict_success", "Inputs answered", registry=registry)
        self.unsure = Counter(
            "te_predict_unsure", "Inputs answered with a best score below the threshold", ["model"], registry=registry
        )
        self.labels = Counter("te_predict_label", "Inputs answered with a label", ["model", "label"], registry=registry)
        self.confidence = self._by_model("te_predict_confidence", "Best scores of answered inputs", CONFIDENCES)
        self.failures = self._counters("te_request_failure", "Requests not answered", "err", reasons)
        self.duration = self._seconds("te_request_duration", "From the parsed request to its answer")
        self.tokenization = self._seconds("te_request_tokenization_duration", "Tokenization")
        self.queue = self._seconds("te_request_queue_duration", "Waiting for a free worker")
        self.inference = self._seconds("te_request_inference_duration", "In the model")
        self.queue_size = self._gauge("te_queue_size", "Inputs waiting for a free worker")
        powers = [float(2**power) for power in range(21)]
        self.input_length = self._by_model(
            "te_request_input_length", "Tokens of an input, special ones included", powers
        )
        self.batch_size = self._by_model("te_batch_next_size", "Inputs of a batch", powers[:13])
        self.batch_tokens = self._by_model("te_batch_next_tokens", "Tokens of a batch, padding included", powers)

    @cached_property
    def fallback(self) -> FallbackMetrics:
        """The metrics of a fallback, which a server without one does not have."""
        outcomes, unsure = get_args(Outcome), "what the first model is unsure of"
        return FallbackMetrics(
            self._counters("te_fallback_count", f"Requests for the fallback, with {unsure}", "outcome", outcomes),
            self._counters("te_fallback_inputs", f"Inputs for the fallback, {unsure}", "outcome", outcomes),
            Histogram(
                "te_fallback_duration", "The fallback's answers, seconds", buckets=SECONDS, registry=self.registry
            ),
            self._gauge("te_fallback_queue_size", "Inputs waiting for a free worker of the fallback"),
            self._gauge("te_fallback_in_flight", "Requests that the fallback has not answered yet"),
            self._gauge("te_fallback_open", "1 while the fallback is left alone after failures"),
        )

    @cached_property
    def drift(self) -> DriftMetrics:
        """The metrics of drift, which a server of models without baselines does not have."""
        return DriftMetrics(
            Gauge(
                "te_drift_stability_index", "Population stability index of recent inputs against the model's baseline",
                ["model", "of"], registry=self.registry, multiprocess_mode="livemax",
            ),
            Gauge(
                "te_drift_inputs", "Recent inputs that are compared with the model's baseline", ["model"],
                registry=self.registry, multiprocess_mode="livesum",
            ),
        )  # fmt: skip

    def audits(self, model: str) -> dict[Audited, Counter]:
        """Return the counters of a model's audit by outcome; a server without an audit does not have them."""
        counter = Counter(
            "te_audit_count", "Inputs that the model is sure of and the fallback classified too, by whether it agreed",
            ["model", "outcome"], registry=self.registry,
        )  # fmt: skip
        return {outcome: counter.labels(model, outcome) for outcome in get_args(Audited)}

    def durations(self, model: str) -> list[Histogram]:
        """Return a model's histograms: in total, tokenization, queue, inference."""
        histograms = (self.duration, self.tokenization, self.queue, self.inference)
        return [histogram.labels(model) for histogram in histograms]

    def render(self) -> bytes:
        """Render the text that Prometheus scrapes, without the `_total` that dashboards do not expect in names.

        Requests' durations appear once more as te_predict_*, which text-embeddings-inference measures for each input.
        """
        text = COUNTER.sub(rb"\1", generate_latest(self._everything()))
        return text + b"".join(DURATION.findall(text)).replace(b"te_request_", b"te_predict_")

    def of_model(self, model: str) -> dict[str, float]:
        """Return the sums and counts of a model's histograms by their names; those without any are 0."""
        samples = (sample for family in self._everything().collect() for sample in family.samples)
        values = {sample.name: sample.value for sample in samples if sample.labels == {"model": model}}
        return defaultdict(float, values)

    def _everything(self) -> CollectorRegistry:
        """Return a registry of this process's metrics, or of the sums over all that share a directory."""
        if SHARED_VARIABLE not in os.environ:
            return self.registry
        MultiProcessCollector(registry := CollectorRegistry())  # type: ignore[no-untyped-call]
        return registry

    def _counters(self, name: str, description: str, label: str, values: Sequence[Value]) -> dict[Value, Counter]:
        """Make a counter for each value of its label; a lookup at every request would cost more."""
        counter = Counter(name, description, [label], registry=self.registry)
        return {value: counter.labels(value) for value in values}

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, registry=self.registry, multiprocess_mode="livesum")

    def _seconds(self, name: str, description: str) -> Histogram:
        return self._by_model(name, f"{description}, seconds", SECONDS)

    def _by_model(self, name: str, description: str, buckets: list[float]) -> Histogram:
        return Histogram(name, description, ["model"], buckets=buckets, registry=self.registry)


@dataclass(frozen=True)
class DriftMetrics:
    """The metrics of drift.

    Attributes:
        index: population stability index by model and by what it is of; 0 until there are enough inputs.
        inputs: by model, how many it is of.
    """

    index: Gauge
    inputs: Gauge


@dataclass(frozen=True)
class FallbackMetrics:
    """The metrics of a fallback.

    Attributes:
        requests, inputs: counts by outcome.
        duration: of its answers, seconds.
        queue_size: inputs waiting for a free worker, where it is a bundle.
        in_flight: requests that it has not answered.
        open: 1 while it is left alone after failures; of several processes their number.
    """

    requests: Mapping[Outcome, Counter]
    inputs: Mapping[Outcome, Counter]
    duration: Histogram
    queue_size: Gauge
    in_flight: Gauge
    open: Gauge
