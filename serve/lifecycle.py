"""SIGTERM: readiness goes off first, and what is still sent meanwhile is answered."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from serve.models.registry import Models

YOUNG_OBJECTS = 20_000  # between two collections of them; Python's own 700 are those of one or two requests


@contextmanager
def drain_on_sigterm(models: Models, delay_s: float) -> Iterator[None]:
    """On SIGTERM, /health/ready says no; the server's own handler, which stops accepting, runs `delay_s` later.

    A load balancer notices in between and sends requests elsewhere, so none meets a closed door. Where the server has
    no handler, or runs outside the main thread, SIGTERM is left alone.
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


@contextmanager
def freeze_startup_objects() -> Iterator[None]:
    """Keep Python's garbage collector from walking, over and over, all that was made at the start and stays.

    Requests make enough objects that it would do so several times a second, each time for tens of milliseconds. What
    they make is nearly all gone before it is walked, if that is put off for some tens of requests.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
