"""The threads of a server, shared by all of its models: one a CPU runs models, as many tokenize what is long.

Models served side by side, an old one that is finishing and a new one that is warming up among them, take turns on
the same CPUs instead of each bringing threads of its own.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from serve.metrics import Metrics


class Batch(Protocol):
    """Inputs that run together."""

    @property
    def expected_s(self) -> float:
        """Seconds that it should take."""
        ...

    def infer(self) -> Any:
        """Run it, on a thread; raises nothing."""
        ...

    def settle(self, outcomes: Any, started: float, ended: float) -> None:
        """Hand out what `infer` gave, in the event loop."""
        ...


class Source(Protocol):
    """Inputs queued for one model."""

    in_flight: int

    def queued(self) -> int:
        """Inputs that wait."""
        ...

    def oldest(self) -> float:
        """When the one that waits longest was queued."""
        ...

    def queued_s(self) -> float:
        """Seconds that what waits takes on one worker."""
        ...

    def next_batch(self, share: int) -> Batch:
        """At most `share` inputs, taken off the queue."""
        ...


class WorkerPool:
    """`count` threads for the models, handed out to whoever has waited longest; create and use in one event loop.

    A thread that is done takes its next batch itself: the event loop may be busy with a burst of requests, and the
    thread would wait for all of them. All threads share a model's one session, which must run on its caller's thread
    (threads=1): that is as fast as one session each and holds the weights once.

    Args:
        count: threads that run models, and as many that tokenize.
        metrics: where the queue's length is shown.
        clock: seconds, for what is measured and estimated.

    Attributes:
        lock: held while a queue is changed.
    """

    def __init__(self, count: int, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count, self.clock, self.lock = count, clock, threading.Lock()
        self.tokenizing = ThreadPoolExecutor(count, thread_name_prefix="tokenize")
        self.inference = ThreadPoolExecutor(count, thread_name_prefix="infer")
        self._idle = count
        self._sources: dict[Source, None] = {}  # in order
        self._running: dict[Batch, float] = {}  # and when each is expected to end
        self._threads: set[Future[None]] = set()  # those that are not idle
        self._dispatching = False  # whether `_wake` is due
        self._queue_size = metrics.queue_size
        self._queue_size.set(0)

    def add(self, source: Source) -> None:
        """Serve this one's queue too."""
        with self.lock:
            self._sources[source] = None

    def remove(self, source: Source) -> None:
        """Forget one whose queue is empty for good."""
        with self.lock:
            self._sources.pop(source, None)

    @property
    def in_flight(self) -> int:
        """Inputs accepted and not yet answered, of all models."""
        return sum(source.in_flight for source in self._sources)

    def wait_s(self) -> float:
        """How long until the work accepted so far is done, as measured batches tell."""
        with self.lock:
            if self._idle:
                return 0.0
            now = self.clock()
            running = sum(max(0.0, end - now) for end in self._running.values())
            return (running + sum(source.queued_s() for source in self._sources)) / self.count

    def dispatch(self) -> None:
        """Have idle threads woken, once the event loop has come to all the requests that have arrived together.

        The first of them alone would be a batch, and batches of one cost more than those of a few.
        """
        if not self._dispatching:
            self._dispatching = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake an idle thread for each batch that there is to run."""
        self._dispatching = False
        with self.lock:
            while self._idle and (batch := self._take(self._idle)):
                self._idle -= 1
                thread = self.inference.submit(self._work, loop, batch)
                self._threads.add(thread)
                thread.add_done_callback(self._rested)
            self.show_queue()

    def show_queue(self) -> None:
        """Tell the metrics how many inputs wait; the lock is held."""
        self._queue_size.set(sum(source.queued() for source in self._sources))

    def _take(self, threads: int) -> Batch | None:
        """The next batch: the oldest input in it, and no more than a share for so many threads; the lock is held."""
        waiting = [source for source in self._sources if source.queued()]
        if not waiting:
            return None
        source = min(waiting, key=lambda one: one.oldest())
        batch = source.next_batch(math.ceil(source.queued() / threads))
        self._running[batch] = self.clock() + batch.expected_s
        return batch

    def _work(self, loop: asyncio.AbstractEventLoop, batch: Batch | None) -> None:
        """On a thread: run batches until no input waits."""
        while batch:
            started = self.clock()
            outcomes = batch.infer()
            ended = self.clock()
            with self.lock:
                del self._running[batch]
                done, batch = batch, self._take(self._idle + 1)
                self._idle += batch is None
                self.show_queue()
            loop.call_soon_threadsafe(done.settle, outcomes, started, ended)

    def _rested(self, thread: Future[None]) -> None:
        self._threads.discard(thread)
        thread.result()  # what cannot happen is at least told

    async def close(self) -> None:
        """Let the running batches end, then stop the threads."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._threads)))
        self.tokenizing.shutdown()
        self.inference.shutdown()
