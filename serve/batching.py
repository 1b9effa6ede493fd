"""Requests in flight, batched: inputs of like length go through the model together, each answer to its own request.

A batch forms from whatever is queued at the moment a worker is free, so an idle server never waits for company.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve.metrics import Metrics
from serve.schemas import ServeError, Text
from toolkit.config import ServeConfig
from toolkit.errors import faults
from toolkit.predictor import Predictor
from toolkit.text import Direction, Encoded

WINDOW = 128  # queued inputs looked at for a batch: enough to find like lengths, few enough to scan each time
MAX_PADDING = 0.25  # share of a batch that may be padding; beyond it a second batch is cheaper
NOT_FINITE = "the model gave scores that are not finite"
CGROUP = Path("/sys/fs/cgroup")


def cpu_quota(cgroup: Path = CGROUP) -> int:
    """Whole CPUs this process may use: its affinity, and a container's limit where that is lower (at least 1)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        limit = available if quota == "max" or int(quota) <= 0 else math.floor(int(quota) / int(period))
    except (OSError, ValueError):
        return available
    return max(1, min(available, limit))


@dataclass(frozen=True)
class Limits:
    """How much a server takes on; the names are text-embeddings-inference's.

    Attributes:
        max_concurrent_requests: inputs accepted and not yet answered; more are refused before any work.
        max_batch_tokens: tokens of one batch, padding included; memory grows with it.
        max_batch_requests: inputs of one batch.
        max_client_batch_size: inputs of one request.
        payload_limit: bytes of one request body.
        workers: threads that run the model, one CPU each.
    """

    max_concurrent_requests: int = ServeConfig.max_concurrent_requests
    max_batch_tokens: int = ServeConfig.max_batch_tokens
    max_batch_requests: int = ServeConfig.max_batch_requests
    max_client_batch_size: int = ServeConfig.max_client_batch_size
    payload_limit: int = ServeConfig.payload_limit
    workers: int = field(default_factory=cpu_quota)

    @classmethod
    def of(cls, config: ServeConfig) -> Limits:
        """The limits of a configuration, its workers counted out."""
        config.check()
        given = {name: getattr(config, name) for name in cls.__dataclass_fields__}
        return cls(**{**given, "workers": config.workers or cpu_quota()})

    def check(self, max_length: int) -> None:
        """Raise one ToolkitError with every limit that could not work for inputs of up to `max_length` tokens."""
        problems = [f"{name} {value}: expected 1 or more" for name, value in vars(self).items() if value < 1]
        if 0 < self.max_batch_tokens < max_length:
            problems.append(f"max_batch_tokens {self.max_batch_tokens}: expected at least max_length, {max_length}")
        if 0 < self.max_concurrent_requests < self.max_client_batch_size:
            problems.append(
                f"max_client_batch_size {self.max_client_batch_size}: expected at most max_concurrent_requests, "
                f"{self.max_concurrent_requests}; a full request would never be accepted"
            )
        faults(problems, subject="these limits cannot be used")


@dataclass(frozen=True)
class Answer:
    """Logits [n, C] float32 of a request's n inputs, in their order, and what they cost."""

    logits: np.ndarray
    tokens: int
    tokenization_s: float
    queue_s: float
    inference_s: float


@dataclass(eq=False)
class _Request:
    """A request whose inputs are queued or running: done when every row has its logits, or one has failed."""

    done: asyncio.Future[None]
    logits: list[np.ndarray | None]
    queue_s: float = 0.0
    inference_s: float = 0.0

    def settle(self, row: int, outcome: np.ndarray | ServeError) -> None:
        if self.done.done():
            return
        if isinstance(outcome, ServeError):
            self.done.set_exception(outcome)
            return
        self.logits[row] = outcome
        if all(one is not None for one in self.logits):
            self.done.set_result(None)


@dataclass(eq=False)
class _Entry:
    """One tokenized input of a request."""

    request: _Request
    row: int
    ids: np.ndarray
    type_ids: np.ndarray
    queued: float

    def __len__(self) -> int:
        return len(self.ids)


class Engine:
    """Batches requests through one predictor on `limits.workers` threads.

    All threads share the predictor's one session, which must run on its caller's thread (threads=1): that is as
    fast as one session each and holds the weights once. Create and use it inside one event loop.

    Raises:
        ToolkitError: limits that could not work.
    """

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        limits.check(predictor.bundle.max_length)
        self.predictor, self.limits, self.metrics = predictor, limits, metrics
        self.failing = False  # whether the model itself failed in the latest batch
        self.in_flight = 0
        self._closing = False
        self._idle = limits.workers
        self._queue: deque[_Entry] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._seconds_per_input = 0.0
        self._tokenizing = ThreadPoolExecutor(limits.workers, thread_name_prefix="tokenize")
        self._inference = ThreadPoolExecutor(limits.workers, thread_name_prefix="infer")
        metrics.queue_size.set_function(lambda: len(self._queue))

    async def predict(self, texts: Sequence[Text], *, truncate: bool = True, direction: Direction = "right") -> Answer:
        """Logits of texts and pairs. Cancelling drops those still queued.

        Raises:
            ServeError: Overloaded or Unhealthy before any work; Validation for an input that is too long when not
                truncating; Tokenizer; Backend when the model fails or its logits are not finite.
        """
        self._accept(len(texts))
        request = _Request(asyncio.get_running_loop().create_future(), [None] * len(texts))
        try:
            started = time.perf_counter()
            loop = asyncio.get_running_loop()
            encoded = await loop.run_in_executor(self._tokenizing, self._encode, texts, truncate, direction)
            now = time.perf_counter()
            self._queue.extend(_Entry(request, row, ids, types, now) for row, (ids, types) in enumerate(encoded))
            self._dispatch()
            await request.done
        finally:
            self._release(request, len(texts))
        tokens = sum(len(ids) for ids, _ in encoded)
        logits = np.stack([one for one in request.logits if one is not None])
        return Answer(logits, tokens, now - started, request.queue_s, request.inference_s)

    async def close(self) -> None:
        """Refuse new requests, finish the accepted ones, stop the threads."""
        self._closing = True
        while self.in_flight:
            self._drained.clear()
            await self._drained.wait()
        await asyncio.gather(*self._running)
        self._tokenizing.shutdown()
        self._inference.shutdown()

    @property
    def closing(self) -> bool:
        """Whether the engine no longer accepts requests."""
        return self._closing

    def _accept(self, count: int) -> None:
        if self._closing:
            raise ServeError("Unhealthy", "shutting down")
        if self.in_flight + count > self.limits.max_concurrent_requests:
            wait = self.in_flight * self._seconds_per_input / self.limits.workers
            raise ServeError(
                "Overloaded",
                f"Model is overloaded: {self.in_flight} inputs in flight, at most "
                f"{self.limits.max_concurrent_requests} are accepted",
                retry_after=min(60, max(1, math.ceil(wait))),
            )
        self.in_flight += count

    def _release(self, request: _Request, count: int) -> None:
        self.in_flight -= count
        if not request.done.done() or request.done.cancelled() or request.done.exception() is not None:
            request.done.cancel()
            self._queue = deque(entry for entry in self._queue if entry.request is not request)
        if not self.in_flight:
            self._drained.set()

    def _encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[tuple[np.ndarray, ...]]:
        """Token ids and type ids per input; texts and pairs are told to the tokenizer apart."""
        encoder = self.predictor.encoder
        found: dict[int, tuple[np.ndarray, ...]] = {}
        for paired in (False, True):
            rows = [row for row, (_, pair) in enumerate(texts) if (pair is not None) == paired]
            if not rows:
                continue
            pairs = [texts[row][1] or "" for row in rows] if paired else None
            try:
                encoded = encoder.encode([texts[row][0] for row in rows], pairs, direction)
            except Exception as error:  # tokenizers raises a bare Exception
                raise ServeError("Tokenizer", f"the tokenizer failed: {error}") from error
            if not truncate and encoded.truncated.any():
                text, pair = texts[rows[int(encoded.truncated.argmax())]]
                raise ServeError(
                    "Validation",
                    f"an input has {encoder.count(text, pair)} tokens, more than the {encoder.max_length} that the "
                    "model takes: shorten it, or leave `truncate` out to have it cut",
                )
            found.update(zip(rows, zip(encoded.ids, encoded.type_ids, strict=True), strict=True))
        return [found[row] for row in range(len(texts))]

    def _dispatch(self) -> None:
        """Start a batch on every idle worker, as long as there is something to run."""
        while self._idle and self._queue:
            batch = self._next_batch(math.ceil(len(self._queue) / self._idle))
            self._idle -= 1
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next_batch(self, share: int) -> list[_Entry]:
        """The oldest input and up to `share` - 1 of like length, within the limits on tokens, inputs and padding."""
        oldest, *others = (self._queue[i] for i in range(min(WINDOW, len(self._queue))))
        most = min(share, self.limits.max_batch_requests)
        batch, longest, real = [oldest], len(oldest), len(oldest)
        for entry in sorted(others, key=lambda one: abs(len(one) - len(oldest))):
            if len(batch) == most:
                break
            width = max(longest, len(entry))
            padded = width * (len(batch) + 1)
            if padded <= self.limits.max_batch_tokens and padded - real - len(entry) <= MAX_PADDING * padded:
                batch.append(entry)
                longest, real = width, real + len(entry)
        chosen = set(map(id, batch))
        self._queue = deque(entry for entry in self._queue if id(entry) not in chosen)
        return batch

    async def _run(self, batch: list[_Entry]) -> None:
        started = time.perf_counter()
        self.metrics.batch_size.observe(len(batch))
        self.metrics.batch_tokens.observe(max(map(len, batch)) * len(batch))
        outcomes = await asyncio.get_running_loop().run_in_executor(self._inference, self._infer, batch)
        elapsed = time.perf_counter() - started
        self._idle += 1
        self._seconds_per_input += 0.1 * (elapsed / len(batch) - self._seconds_per_input)
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.request.queue_s = max(entry.request.queue_s, started - entry.queued)
            entry.request.inference_s = max(entry.request.inference_s, elapsed)
            entry.request.settle(entry.row, outcome)
        self._dispatch()

    def _infer(self, batch: list[_Entry]) -> list[np.ndarray | ServeError]:
        """Logits [C] per entry, or what went wrong with it; one bad input must not fail its neighbours."""
        encoded = Encoded(
            [entry.ids for entry in batch],
            [entry.type_ids for entry in batch],
            np.zeros(len(batch), dtype=bool),
            self.predictor.encoder.pad_id,
        )
        try:
            logits = self.predictor.logits(encoded, batch_size=len(batch))
            finite = np.isfinite(logits).all(axis=1)
        except Exception as error:  # whatever the runtime raises, the request gets an answer
            if len(batch) > 1:
                return [self._infer([entry])[0] for entry in batch]
            self.failing = True
            return [ServeError("Backend", f"the model failed: {error}")]
        self.failing = False
        return [row if good else ServeError("Backend", NOT_FINITE) for row, good in zip(logits, finite, strict=True)]
