"""What operators watch of a model: the labels it answers, how sure it is, and drift; counted in bulk."""

from __future__ import annotations

import asyncio

import numpy as np

from serve.engine.engine import EngineResult
from serve.metrics import Metrics
from serve.models.cascade import CascadeResult
from serve.models.drift import Drift
from toolkit.inference.drift import Traits, count_labels
from toolkit.inference.predictor import Predictor

BULK = 8192  # logits and tokens together that wait to be counted: those of some 250 short texts
WAIT_S = 5.0  # for which they wait at most; in the process that is asked for /metrics, until then
MOST_LABELS = 30  # shown by name
OTHER, NONE = "(other)", "(none)"


class Answered:
    """The labels and the confidence of inputs that one model answered.

    At most MOST_LABELS labels are shown by name, those most frequent in the baseline, or the first ones where there is
    none; OTHER counts the rest. NONE counts multi-label inputs without any label. A regression has neither.

    Args:
        predictor: whose labels they are.
        metrics: of the server.
        name: of the model that answered.
    """

    def __init__(self, predictor: Predictor, metrics: Metrics, name: str) -> None:
        self._kind, labels, baseline = predictor.task.kind, predictor.task.labels, predictor.baseline
        frequency = np.array(baseline["labels"]) if baseline and baseline["labels"] else np.zeros(len(labels))
        shown = set(np.argsort(-frequency, kind="stable")[:MOST_LABELS].tolist())
        names = [label if number in shown else OTHER for number, label in enumerate(labels)]
        if self._kind == "multi_label":
            names.append(NONE)
        used = [*dict.fromkeys(names)]
        self._counter_of = np.array([used.index(label) for label in names])
        if self._kind != "regression":
            self._counters = [metrics.labels.labels(name, label) for label in used]
            self._confidence = metrics.confidence.labels(name)

    def count(self, scores: np.ndarray) -> None:
        """Count inputs by their scores [n, C]."""
        if self._kind == "regression":
            return
        labels = count_labels(scores, self._kind)[: len(self._counter_of)]
        inputs = np.bincount(self._counter_of, weights=labels)
        for counter, number in zip(self._counters, inputs.tolist(), strict=True):
            if number:
                counter.inc(number)
        for score in scores.max(axis=1).tolist():
            self._confidence.observe(score)


class Watch:
    """Keeps answers for a moment, and counts many at a time, which costs a request next to nothing.

    Use it in one event loop.

    Args:
        name: of the model.
        predictor: the model.
        metrics: of the server.

    Attributes:
        drift: of the texts; None where the model has no baseline.
    """

    def __init__(self, name: str, predictor: Predictor, metrics: Metrics) -> None:
        self._predictor, self._metrics = predictor, metrics
        self._answered = {name: Answered(predictor, metrics, name)}
        self._own = self._answered[name]
        self.drift: Drift | None = None
        if predictor.baseline is not None:
            self.drift = Drift(predictor.baseline, metrics.drift, name)
        self._waiting: list[EngineResult] = []
        self._size = 0
        self._timer: asyncio.Handle | None = None

    def add(self, result: EngineResult) -> None:
        """Take an answer that is sent."""
        self._waiting.append(result)
        before, self._size = self._size, self._size + result.logits.size + result.tokens
        if before < BULK <= self._size:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self.catch_up)  # the answer goes first
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.catch_up)

    def catch_up(self) -> None:
        """Count what waits."""
        results, self._waiting, self._size = self._waiting, [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not results:
            return
        logits = np.concatenate([result.logits for result in results])
        own, start = np.ones(len(logits), dtype=bool), 0
        for result in results:
            if isinstance(result, CascadeResult) and result.second is not None:
                own[start + result.rows] = False
                self._by(result.fallback.name).count(result.second.scores)
            start += len(result.logits)
        if own.any():
            self._own.count(self._predictor.scores(logits[own]))
        if self.drift is not None:
            ids = [tokens for result in results for tokens in result.ids]
            kind, unknown = self._predictor.task.kind, self._predictor.encoder.unknown_id
            self.drift.add(Traits.of(kind, logits, ids, unknown))

    def _by(self, name: str) -> Answered:
        if name not in self._answered:
            self._answered[name] = Answered(self._predictor, self._metrics, name)
        return self._answered[name]
