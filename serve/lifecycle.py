"""The start and end of the application: SIGTERM turns readiness off before the server stops accepting."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from serve.models.registry import Models


@contextmanager
def drain_on_sigterm(models: Models, delay_s: float) -> Iterator[None]:
    """On SIGTERM turn /health/ready off; the server's own handler, which stops accepting, runs `delay_s` later.

    In between a load balancer notices and sends requests elsewhere, so that no request meets a closed port. Where the
    server has no handler, or runs outside the main thread, SIGTERM is left alone.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    loop, stop = asyncio.get_running_loop(), before

    def drain(number: int, frame: FrameType | None) -> None:
        models.draining = True
        if delay_s:
            loop.call_soon_threadsafe(loop.call_later, delay_s, stop, number, frame)
        else:
            stop(number, frame)

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
