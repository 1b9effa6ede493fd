"""The threads of a server, shared by all of its models: one a CPU runs models, as many tokenize what is long.

Models served side by side, an old one that is finishing and a new one that is warming up among them, take turns on
the same CPUs instead of each bringing threads of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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


class Workers:
    """`count` threads for the models, handed out to whoever has waited longest; create and use in one event loop.

    All threads share a model's one session, which must run on its caller's thread (threads=1): that is as fast as
    one session each and holds the weights once.

    Args:
        count: threads that run models, and as many that tokenize.
        metrics: where the queue's length is shown.
        clock: seconds, for what is measured and estimated.
    """

    def __init__(self, count: int, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count, self.clock = count, clock
        self.tokenizing = ThreadPoolExecutor(count, thread_name_prefix="tokenize")
        self.inference = ThreadPoolExecutor(count, thread_name_prefix="infer")
        self._idle = count
        self._sources: dict[Source, None] = {}  # in order
        self._running: dict[asyncio.Future[Any], float] = {}  # batches and when they are expected to end
        self._queue_size = metrics.queue_size
        self.show_queue()

    def add(self, source: Source) -> None:
        """Serve this one's queue too."""
        self._sources[source] = None

    def remove(self, source: Source) -> None:
        """Forget one whose queue is empty for good."""
        self._sources.pop(source, None)

    @property
    def in_flight(self) -> int:
        """Inputs accepted and not yet answered, of all models."""
        return sum(source.in_flight for source in self._sources)

    def wait_s(self) -> float:
        """How long until the work accepted so far is done, as measured batches tell."""
        if self._idle:
            return 0.0
        now = self.clock()
        running = sum(max(0.0, end - now) for end in self._running.values())
        return (running + sum(source.queued_s() for source in self._sources)) / self.count

    def dispatch(self) -> None:
        """Start a batch on every idle thread, as long as there is something to run; the oldest input goes first."""
        while self._idle and (waiting := [source for source in self._sources if source.queued()]):
            source = min(waiting, key=lambda one: one.oldest())
            batch = source.next_batch(math.ceil(source.queued() / self._idle))
            self._idle -= 1
            started = self.clock()
            run = asyncio.get_running_loop().run_in_executor(self.inference, batch.infer)
            self._running[run] = started + batch.expected_s
            run.add_done_callback(partial(self._finished, batch, started))
        self.show_queue()

    def show_queue(self) -> None:
        """Tell the metrics how many inputs wait."""
        self._queue_size.set(sum(source.queued() for source in self._sources))

    def _finished(self, batch: Batch, started: float, run: asyncio.Future[Any]) -> None:
        """Give the thread its next batch before this one's answers are written: it would wait for all of them."""
        ended = self.clock()
        del self._running[run]
        self._idle += 1
        self.dispatch()
        batch.settle(run.result(), started, ended)

    async def close(self) -> None:
        """Let the running batches end, then stop the threads."""
        await asyncio.gather(*self._running)
        self.tokenizing.shutdown()
        self.inference.shutdown()
