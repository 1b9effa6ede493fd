"""The engine of a model: inputs of like length run together, and each answer goes to its own request.

A batch forms from the inputs that are queued when a worker becomes free, so an idle server never waits for more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, count, repeat

import numpy as np

from serve.engine.latency_model import LatencyModel
from serve.engine.limits import Limits
from serve.engine.queue import PendingRequest, Queue, QueuedInput
from serve.engine.tokenization import Text, Tokenization
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics
from toolkit.data.tokenization import Direction, EncodedTexts
from toolkit.inference.predictor import Classifier

# of a batch, so that what comes next waits no longer for a worker; more where its fixed costs would be a larger share
BATCH_SECONDS, FIXED_SHARE = 0.008, 1 / 4
PATIENCE = 8  # more than the requests of many inputs that usually run side by side
NOT_FINITE = "the model gave scores that are not finite"


@dataclass(frozen=True)
class EngineResult:
    """The answer to a request.

    Attributes:
        logits: [n, C] float32 of its n inputs, in their order.
        ids: n arrays of tokens [L_i], special ones included.
        tokens: of all inputs together.
        truncated: an input was cut.
        tokenization_s, queue_s, inference_s: seconds of the slowest input.
    """

    logits: np.ndarray
    ids: Sequence[np.ndarray]
    tokens: int
    truncated: bool
    tokenization_s: float
    queue_s: float
    inference_s: float

    def stages(self) -> dict[str, float]:
        """Return seconds by stage."""
        return {"tokenization": self.tokenization_s, "queue": self.queue_s, "inference": self.inference_s}


@dataclass(frozen=True, eq=False)
class _Batch:
    """Inputs that run together, and the number of their tokens, padding included."""

    engine: Engine
    entries: list[QueuedInput]
    tokens: int

    @property
    def expected_s(self) -> float:
        return self.engine.latency.seconds(self.tokens)

    def run(self) -> list[np.ndarray | ServeError]:
        return self.engine.run(self.entries)

    def deliver(self, outcomes: list[np.ndarray | ServeError], started: float, ended: float) -> None:
        with self.engine.workers.lock:
            self.engine.latency.observe(self.tokens, ended - started)
        for entry, outcome in zip(self.entries, outcomes, strict=True):
            request = entry.request
            request.queue_s = max(request.queue_s, started - entry.queued)
            request.inference_s = max(request.inference_s, ended - started)
            request.deliver(entry.row, outcome)


def _overloaded(problem: str, wait_s: float) -> ServeError:
    return ServeError("Overloaded", f"Model is overloaded: {problem}", retry_after=min(60, max(1, math.ceil(wait_s))))


class Engine:
    """Batches requests through one predictor on threads that it may share with other engines.

    Args:
        predictor: the model; its session must run on its caller's thread.
        limits: how much to accept.
        metrics: the counters of batches and durations.
        workers: the threads; they and the engine belong to one event loop.
        name: the model's label in the metrics.

    Raises:
        ToolkitError: limits that could not work.
    """

    def __init__(
        self, predictor: Classifier, limits: Limits, metrics: Metrics, workers: WorkerPool, name: str = "model"
    ) -> None:
        limits.check(predictor.encoder.max_length)
        self.predictor, self.limits, self.workers = predictor, limits, workers
        self.failing = False  # the model itself failed in the latest batch
        self.in_flight = 0
        self.latency = LatencyModel()
        self._tokenization = Tokenization(predictor.encoder, workers.tokenizing, workers.tokenization_backlog)
        self._closing = False
        self._queue = Queue()
        self._drained = asyncio.Event()
        self.durations = metrics.durations(name)
        self._input_length = metrics.input_length.labels(name)
        self._batch_size, self._batch_tokens = metrics.batch_size.labels(name), metrics.batch_tokens.labels(name)
        workers.add(self)

    async def predict(
        self, texts: Sequence[Text], *, truncate: bool = True, direction: Direction = "right",
        timeout_ms: int | None = None,
    ) -> EngineResult:  # fmt: skip
        """Classify texts and pairs within `timeout_ms` (by default the limits' own).

        Inputs that are still queued when the time is over, or when the caller is cancelled, are dropped and never run.

        Raises:
            ServeError: Overloaded or Unhealthy before any work, also when the work ahead would outlast the time;
                Timeout; Validation for an input that is too long when not truncating; Tokenizer; Backend when the
                model fails or its logits are not finite.
        """
        allowed = timeout_ms or self.limits.timeout_ms
        started = self.workers.clock()
        deadline = started + allowed / 1000
        self._accept(len(texts), deadline, self._tokenization.expected_s(texts))
        request = PendingRequest(asyncio.get_running_loop().create_future(), [None] * len(texts))
        try:
            async with asyncio.timeout(allowed / 1000) as limit:
                encoded = await self._tokenization.encode(texts, truncate, direction)
                now = self.workers.clock()
                ids = [tokens.ids for tokens in encoded]
                lengths = [*map(len, ids)]
                for length in lengths:
                    self._input_length.observe(length)
                if self.workers.in_flight > len(texts):
                    self._check_deadline(deadline, lengths)
                due = [now + seconds for seconds in self._patience_s(lengths, deadline - now)]
                with self.workers.lock:
                    self._queue.add(map(QueuedInput, repeat(request), count(), encoded, repeat(now), due))
                self.workers.dispatch()
                await request.done
        except TimeoutError:
            if not limit.expired():
                raise
            raise ServeError("Timeout", f"no answer within {allowed} ms") from None
        finally:
            self._release(request, len(texts))
        logits = np.array([row for row in request.logits if row is not None])
        truncated = any(tokens.cut for tokens in encoded)
        return EngineResult(logits, ids, sum(lengths), truncated, now - started, request.queue_s, request.inference_s)

    async def close(self) -> None:
        """Refuse new requests, finish the accepted ones, and leave the worker pool."""
        self._closing = True
        while self.in_flight:
            self._drained.clear()
            await self._drained.wait()
        self.workers.remove(self)

    @property
    def closing(self) -> bool:
        """The engine no longer accepts requests."""
        return self._closing

    def _accept(self, count: int, deadline: float, tokenization_s: float) -> None:
        if self._closing:
            raise ServeError("Unhealthy", "shutting down")
        before, most = self.workers.in_flight, self.limits.max_concurrent_requests
        if before + count > most:
            raise _overloaded(f"{before} inputs in flight, at most {most} are accepted", self.workers.wait_s())
        if before:
            self._check_deadline(deadline - tokenization_s)
        self.in_flight += count

    def _check_deadline(self, deadline: float, lengths: Sequence[int] = ()) -> None:
        """Refuse a request that would end too late, judged by its lengths and the work ahead of it.

        Before the lengths are known the work ahead alone decides. An idle engine refuses nothing, so that a wrong
        estimate is measured again.
        """
        own = self._expected_s(len(lengths), sum(lengths)) / self.workers.count
        if lengths:
            own = max(own, self._expected_s(1, max(lengths)))
        late = self.workers.clock() + self.workers.wait_s() + own - deadline
        if late > 0:
            raise _overloaded(f"the answer would come about {max(1, round(late * 1000))} ms after the deadline", late)

    def queued(self) -> int:
        """Return the number of waiting inputs."""
        return len(self._queue)

    def due(self) -> float:
        """Return when the first waiting input is due, seconds by the workers' clock."""
        return self._queue.entries[0].due

    def queued_s(self) -> float:
        """Estimate the seconds that the waiting inputs take on one worker."""
        return self._expected_s(len(self._queue), self._queue.tokens)

    def next_batch(self, share: int) -> _Batch:
        """Take at most `share` inputs off the queue."""
        most_tokens = min(self.latency.tokens(BATCH_SECONDS, FIXED_SHARE), self.limits.max_batch_tokens)
        entries = self._queue.take(share, self.limits, int(most_tokens))
        tokens = max(map(len, entries)) * len(entries)
        self._batch_size.observe(len(entries))
        self._batch_tokens.observe(tokens)
        return _Batch(self, entries, tokens)

    def _patience_s(self, lengths: Sequence[int], left_s: float) -> list[float]:
        """Return the seconds for which each input of a request lets inputs of other requests pass.

        They are `PATIENCE` times the expected seconds of the request's earlier inputs, so that the first inputs of all
        requests go before the later ones of any, and at most what its deadline leaves when all of them have run.
        """
        spare = max(0.0, left_s - self._expected_s(len(lengths), sum(lengths)))
        before = enumerate(accumulate(lengths[:-1], initial=0))
        return [min(spare, PATIENCE * self._expected_s(inputs, tokens)) for inputs, tokens in before]

    def _expected_s(self, inputs: int, tokens: int) -> float:
        """Estimate the seconds of so many inputs on one worker, in as few batches as the limits allow."""
        limits = self.limits
        batches = max(-(-inputs // limits.max_batch_requests), -(-tokens // limits.max_batch_tokens))
        return self.latency.seconds(tokens, batches)

    def _release(self, request: PendingRequest, count: int) -> None:
        self.in_flight -= count
        if not request.done.done() or request.done.cancelled() or request.done.exception() is not None:
            request.done.cancel()
            with self.workers.lock:
                self._queue.drop(request)
                self.workers.show_queue()
        if not self.in_flight:
            self._drained.set()

    def run(self, batch: list[QueuedInput]) -> list[np.ndarray | ServeError]:
        """Run a batch: logits [C] or an error for each entry. A bad input does not fail its neighbours."""
        encoded = EncodedTexts(
            [entry.tokens.ids for entry in batch],
            [entry.tokens.type_ids for entry in batch],
            np.zeros(len(batch), dtype=bool),
            self.predictor.encoder.pad_id,
        )
        try:
            logits = self.predictor.logits(encoded, batch_size=len(batch))
            finite = np.isfinite(logits).all(axis=1)
        except BaseException as error:  # of any kind: the requests get an answer and the thread goes on
            if len(batch) > 1:
                return [self.run([entry])[0] for entry in batch]
            self.failing = True
            return [ServeError("Backend", f"the model failed: {error}")]
        self.failing = False
        return [row if good else ServeError("Backend", NOT_FINITE) for row, good in zip(logits, finite, strict=True)]
