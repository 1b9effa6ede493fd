"""Memory of large blocks goes back to the system when they are freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # of mallopt(3)
BLOCK = 524_288  # bytes


def free_large_blocks() -> None:
    """Let glibc ask the system for each block of 512 KB or more, and give it back as soon as it is freed.

    By itself glibc does so above a threshold that rises to the largest block freed so far. Bodies of megabytes and
    their texts then lie in its heap, which keeps what smaller blocks behind them hold in place.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BLOCK)
