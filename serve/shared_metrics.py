"""Counts of several processes, in a directory in which they add up.

Each process counts in files of its own. They have the number of a place, not of the process: who takes the place of a
dead process counts on where that one ended. So however often processes are replaced, the directory and the time to read
it do not grow. Locks, which end with their process, tell what is in use.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from itertools import count
from pathlib import Path

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

from serve.metrics import SHARED_VARIABLE

PREFIX, LOCK = "toolkit-metrics-", ".lock"
NEW_S = 60.0  # in which a server that has just made its directory locks it


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Provide a directory in which processes that start meanwhile add up their counts.

    Directories that killed servers left behind go first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), _locked(left, LOCK_EX):
            if time.time() - left.stat().st_mtime > NEW_S:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory, _locked(Path(directory), LOCK_SH):
        os.environ[SHARED_VARIABLE] = directory
        try:
            yield
        finally:
            del os.environ[SHARED_VARIABLE]


def take_place() -> int:
    """Let this process, until it ends, count in the files of the first place that no living process has."""
    directory = Path(os.environ[SHARED_VARIABLE])
    _lock(directory, LOCK_SH)
    place = next(number for number in count() if _take(directory / f"{number}{LOCK}"))
    _forget(place)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    return place


def forget_dead_processes() -> None:
    """Take what dead processes held, their gauges, out of the sums; what they counted stays."""
    for file in Path(os.environ[SHARED_VARIABLE]).glob(f"*{LOCK}"):
        with suppress(BlockingIOError), _locked(file, LOCK_EX):
            _forget(int(file.stem))


def _forget(place: int) -> None:
    mark_process_dead(place)  # type: ignore[no-untyped-call]


def _take(file: Path) -> bool:
    file.touch()
    try:
        _lock(file, LOCK_EX)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = _lock(path, kind)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, kind: int) -> int:
    """Lock a file or directory until the descriptor is closed, at the latest when the process ends.

    Raises:
        BlockingIOError: another process has a lock that does not allow it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flock(descriptor, kind | LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
