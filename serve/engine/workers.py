"""The threads of a server, shared by all of its models: one for each CPU runs models, one tokenizes long texts.

Models that are served side by side take turns on the same CPUs; so do an old model that finishes its requests and the
new model that takes its place.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from prometheus_client import Gauge

from serve.engine.tokenization import Backlog


class Batch(Protocol):
    """Inputs that run together."""

    @property
    def expected_s(self) -> float:
        """The expected duration, seconds."""
        ...

    def run(self) -> Any:
        """Run on a thread; this raises nothing."""
        ...

    def deliver(self, outcomes: Any, started: float, ended: float) -> None:
        """Hand the result of `run` to the requests, in the event loop."""
        ...


class Source(Protocol):
    """The queue of one model."""

    in_flight: int

    def queued(self) -> int:
        """Return the number of waiting inputs."""
        ...

    def due(self) -> float:
        """Return when the first waiting input is due, seconds by the workers' clock."""
        ...

    def queued_s(self) -> float:
        """Estimate the seconds that the waiting inputs take on one worker."""
        ...

    def next_batch(self, share: int) -> Batch:
        """Take at most `share` inputs off the queue."""
        ...


class WorkerPool:
    """`count` threads for the models, which serve what is due first; create and use the pool in one event loop.

    A thread that is done takes its next batch itself: the event loop may be busy with a burst of requests, and the
    thread would wait for all of them. All threads share a model's one session, which must run on its caller's thread
    (threads=1): that is as fast as one session each and holds the weights once.

    Args:
        count: threads that run models.
        queue_size: shows the length of the queue.
        clock: returns seconds; all measured and estimated times are by it.

    Attributes:
        lock: held while a queue is changed.
    """

    def __init__(self, count: int, queue_size: Gauge, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count, self.clock, self.lock = count, clock, threading.Lock()
        # one, so that long texts leave the other CPUs to short ones, and of the same priority as all: one of a lower
        # priority is put off while it holds the interpreter, and the event loop with it
        self.tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self.tokenization_backlog = Backlog()
        self.inference = ThreadPoolExecutor(count, thread_name_prefix="infer")
        self._idle = count
        self._sources: dict[Source, None] = {}  # an ordered set
        self._running: dict[Batch, float] = {}  # to the time at which the batch is expected to end
        self._threads: set[Future[None]] = set()  # the busy ones
        self._dispatching = False  # `_wake` is due
        self._queue_size = queue_size
        self._queue_size.set(0)

    def add(self, source: Source) -> None:
        """Serve another queue."""
        with self.lock:
            self._sources[source] = None

    def remove(self, source: Source) -> None:
        """Forget a queue that stays empty from now on."""
        with self.lock:
            self._sources.pop(source, None)

    @property
    def in_flight(self) -> int:
        """The number of inputs that are accepted and not yet answered, of all models."""
        return sum(source.in_flight for source in self._sources)

    def wait_s(self) -> float:
        """Estimate the seconds until the accepted work is done."""
        with self.lock:
            if self._idle:
                return 0.0
            now = self.clock()
            running = sum(max(0.0, end - now) for end in self._running.values())
            return (running + sum(source.queued_s() for source in self._sources)) / self.count

    def dispatch(self) -> None:
        """Wake idle threads once the event loop has read all requests that arrived together.

        The first of them alone would be a batch, and batches of one input cost more than batches of a few.
        """
        if not self._dispatching:
            self._dispatching = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake an idle thread for each batch that can run."""
        self._dispatching = False
        with self.lock:
            while self._idle and (batch := self._take(self._idle)):
                self._idle -= 1
                thread = self.inference.submit(self._work, loop, batch)
                self._threads.add(thread)
                thread.add_done_callback(self._on_idle)
            self.show_queue()

    def show_queue(self) -> None:
        """Set the metric of the queue's length; the caller holds the lock."""
        self._queue_size.set(sum(source.queued() for source in self._sources))

    def _take(self, threads: int) -> Batch | None:
        """Take the next batch, at most a fair share for so many threads; the caller holds the lock."""
        waiting = [source for source in self._sources if source.queued()]
        if not waiting:
            return None
        source = min(waiting, key=lambda candidate: candidate.due())
        batch = source.next_batch(math.ceil(source.queued() / threads))
        self._running[batch] = self.clock() + batch.expected_s
        return batch

    def _work(self, loop: asyncio.AbstractEventLoop, batch: Batch | None) -> None:
        """Run batches on a thread until no input waits."""
        while batch:
            started = self.clock()
            outcomes = batch.run()
            ended = self.clock()
            with self.lock:
                del self._running[batch]
                done, batch = batch, self._take(self._idle + 1)
                self._idle += batch is None
                self.show_queue()
            loop.call_soon_threadsafe(done.deliver, outcomes, started, ended)

    def _on_idle(self, thread: Future[None]) -> None:
        self._threads.discard(thread)
        thread.result()  # raises, and so logs, an error that `_work` should never let through

    async def close(self) -> None:
        """Wait for the running batches, then stop the threads."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._threads)))
        self.tokenizing.shutdown()
        self.inference.shutdown()
