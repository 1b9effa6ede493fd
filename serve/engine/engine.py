"""Requests in flight, batched: inputs of like length go through the model together, each answer to its own request.

A batch forms from whatever is queued at the moment a worker is free, so an idle server never waits for company.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.engine.latency_model import LatencyModel
from serve.engine.limits import Limits
from serve.engine.queue import PendingRequest, Queue, QueuedInput
from serve.engine.tokenization import Text, Tokenization
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics
from toolkit.data.tokenization import Direction, EncodedTexts
from toolkit.inference.predictor import Predictor

NOT_FINITE = "the model gave scores that are not finite"


@dataclass(frozen=True)
class EngineResult:
    """Logits [n, C] float32 of a request's n inputs, in their order, and what they cost."""

    logits: np.ndarray
    tokens: int
    truncated: bool  # whether any input was cut
    tokenization_s: float
    queue_s: float
    inference_s: float

    def stages(self) -> dict[str, float]:
        """Seconds by stage."""
        return {"tokenization": self.tokenization_s, "queue": self.queue_s, "inference": self.inference_s}


@dataclass(frozen=True, eq=False)
class _Batch:
    """Inputs on their way through the model, and the tokens that go with them, padding included."""

    engine: Engine
    entries: list[QueuedInput]
    tokens: int

    @property
    def expected_s(self) -> float:
        return self.engine.cost.seconds(self.tokens)

    def infer(self) -> list[np.ndarray | ServeError]:
        return self.engine.infer(self.entries)

    def settle(self, outcomes: list[np.ndarray | ServeError], started: float, ended: float) -> None:
        with self.engine.workers.lock:
            self.engine.cost.observe(self.tokens, ended - started)
        for entry, outcome in zip(self.entries, outcomes, strict=True):
            request = entry.request
            request.queue_s = max(request.queue_s, started - entry.queued)
            request.inference_s = max(request.inference_s, ended - started)
            request.settle(entry.row, outcome)


def _overloaded(problem: str, wait_s: float) -> ServeError:
    return ServeError("Overloaded", f"Model is overloaded: {problem}", retry_after=min(60, max(1, math.ceil(wait_s))))


class Engine:
    """Batches requests through one predictor on threads that it may share with other engines.

    Args:
        predictor: what answers; its session must run on its caller's thread.
        limits: how much to take on.
        metrics: where batches are counted.
        workers: the threads; one event loop's, in which the engine is used too.
        name: the model's, in the metrics.

    Raises:
        ToolkitError: limits that could not work.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits, metrics: Metrics, workers: WorkerPool, name: str = "model"
    ) -> None:
        limits.check(predictor.bundle.max_length)
        self.predictor, self.limits, self.workers = predictor, limits, workers
        self.failing = False  # whether the model itself failed in the latest batch
        self.in_flight = 0
        self.cost = LatencyModel()
        self._tokenization = Tokenization(predictor.encoder, workers.tokenizing)
        self._closing = False
        self._queue = Queue()
        self._drained = asyncio.Event()
        self.durations = metrics.durations(name)
        self._batch_size, self._batch_tokens = metrics.batch_size.labels(name), metrics.batch_tokens.labels(name)
        workers.add(self)

    async def predict(
        self, texts: Sequence[Text], *, truncate: bool = True, direction: Direction = "right",
        timeout_ms: int | None = None,
    ) -> EngineResult:  # fmt: skip
        """Logits of texts and pairs within `timeout_ms` (the limits' own by default).

        What is still queued when the time is over, or when the caller is cancelled, is dropped and never runs.

        Raises:
            ServeError: Overloaded or Unhealthy before any work, also when the work ahead would outlast the time;
                Timeout; Validation for an input that is too long when not truncating; Tokenizer; Backend when the
                model fails or its logits are not finite.
        """
        allowed = timeout_ms or self.limits.timeout_ms
        started = self.workers.clock()
        deadline = started + allowed / 1000
        self._accept(len(texts), deadline)
        request = PendingRequest(asyncio.get_running_loop().create_future(), [None] * len(texts))
        try:
            async with asyncio.timeout(allowed / 1000) as limit:
                encoded = await self._tokenization.encode(texts, truncate, direction)
                now = self.workers.clock()
                lengths = [len(one.ids) for one in encoded]
                if self.workers.in_flight > len(texts):
                    self._check_deadline(deadline, lengths)
                with self.workers.lock:
                    self._queue.add(QueuedInput(request, row, one, now) for row, one in enumerate(encoded))
                self.workers.dispatch()
                await request.done
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServeError("Timeout", f"no answer within {allowed} ms") from None
        finally:
            self._release(request, len(texts))
        logits = np.array([one for one in request.logits if one is not None])
        cut = any(one.cut for one in encoded)
        return EngineResult(logits, sum(lengths), cut, now - started, request.queue_s, request.inference_s)

    async def close(self) -> None:
        """Refuse new requests, finish the accepted ones, give up the threads."""
        self._closing = True
        while self.in_flight:
            self._drained.clear()
            await self._drained.wait()
        self.workers.remove(self)

    @property
    def closing(self) -> bool:
        """Whether the engine no longer accepts requests."""
        return self._closing

    def _accept(self, count: int, deadline: float) -> None:
        if self._closing:
            raise ServeError("Unhealthy", "shutting down")
        before, most = self.workers.in_flight, self.limits.max_concurrent_requests
        if before + count > most:
            raise _overloaded(f"{before} inputs in flight, at most {most} are accepted", self.workers.wait_s())
        if before:
            self._check_deadline(deadline)
        self.in_flight += count

    def _check_deadline(self, deadline: float, lengths: Sequence[int] = ()) -> None:
        """Refuse what would end too late, by its lengths or, before they are known, by the work ahead of it alone.

        An idle engine is not asked, so that an estimate that was wrong gets measured again.
        """
        own = self._seconds(len(lengths), sum(lengths)) / self.workers.count
        if lengths:
            own = max(own, self._seconds(1, max(lengths)))
        late = self.workers.clock() + self.workers.wait_s() + own - deadline
        if late > 0:
            raise _overloaded(f"the answer would come about {max(1, round(late * 1000))} ms after the deadline", late)

    def queued(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    def oldest(self) -> float:
        """When the one that waits longest was queued."""
        return self._queue.entries[0].queued

    def queued_s(self) -> float:
        """Seconds that what waits takes on one worker."""
        return self._seconds(len(self._queue), self._queue.tokens)

    def next_batch(self, share: int) -> _Batch:
        """At most `share` inputs, taken off the queue."""
        entries = self._queue.take(share, self.limits)
        tokens = max(map(len, entries)) * len(entries)
        self._batch_size.observe(len(entries))
        self._batch_tokens.observe(tokens)
        return _Batch(self, entries, tokens)

    def _seconds(self, inputs: int, tokens: int) -> float:
        """What so many inputs take on one worker, in as few batches as the limits allow."""
        limits = self.limits
        batches = max(-(-inputs // limits.max_batch_requests), -(-tokens // limits.max_batch_tokens))
        return self.cost.seconds(tokens, batches)

    def _release(self, request: PendingRequest, count: int) -> None:
        self.in_flight -= count
        if not request.done.done() or request.done.cancelled() or request.done.exception() is not None:
            request.done.cancel()
            with self.workers.lock:
                self._queue.drop(request)
                self.workers.show_queue()
        if not self.in_flight:
            self._drained.set()

    def infer(self, batch: list[QueuedInput]) -> list[np.ndarray | ServeError]:
        """Logits [C] per entry, or what went wrong with it; one bad input must not fail its neighbours."""
        encoded = EncodedTexts(
            [entry.tokens.ids for entry in batch],
            [entry.tokens.type_ids for entry in batch],
            np.zeros(len(batch), dtype=bool),
            self.predictor.encoder.pad_id,
        )
        try:
            logits = self.predictor.logits(encoded, batch_size=len(batch))
            finite = np.isfinite(logits).all(axis=1)
        except BaseException as error:  # whatever it is, the requests get an answer and the thread goes on
            if len(batch) > 1:
                return [self.infer([entry])[0] for entry in batch]
            self.failing = True
            return [ServeError("Backend", f"the model failed: {error}")]
        self.failing = False
        return [row if good else ServeError("Backend", NOT_FINITE) for row, good in zip(logits, finite, strict=True)]
