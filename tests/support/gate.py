"""A predictor that waits until a test lets it go on."""

from __future__ import annotations

import asyncio
import threading

import numpy as np

from toolkit.data.tokenization import Batch
from toolkit.inference.runtimes import Runtime


class Gate:
    """A runtime that records its batches and lets each through only when told to."""

    def __init__(self, inner: Runtime, *, open_: bool = False) -> None:
        self.inner, self.batches = inner, list[Batch]()
        self.started, self._passes, self._open = threading.Semaphore(0), threading.Semaphore(0), open_

    def run(self, batch: Batch) -> np.ndarray:
        self.batches.append(batch)
        self.started.release()
        if not self._open:
            assert self._passes.acquire(timeout=30)
        return self.inner.run(batch)

    def open(self) -> None:
        self._open = True
        self._passes.release(100)

    async def wait_started(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=30)
