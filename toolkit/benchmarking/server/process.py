"""The real server as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from toolkit.benchmarking.server.http_client import Address
from toolkit.config.import_path import child_environment
from toolkit.console import echo
from toolkit.errors import ToolkitError

START_TIMEOUT_S, STOP_TIMEOUT_S = 300.0, 30.0


@dataclass(frozen=True)
class Server(Address):
    """A running server: its address, and its process, which leads a process group of its own."""

    process: subprocess.Popen[str]


@contextmanager
def launch(
    command: Sequence[str], *, stdout: int = subprocess.DEVNULL, stderr: IO[str] | None = None, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process group of its own; end it, and then the whole group.

    Args:
        command: the program and its arguments.
        stdout: as `subprocess.Popen` takes it.
        stderr: the file that takes its errors; without one they go to the terminal.
        variables: environment variables, added to this process's own.
    """
    # keys of somebody's real service would shut us out of our own
    inherited = {name: value for name, value in os.environ.items() if name != "TOOLKIT_API_KEYS"}
    process = subprocess.Popen(  # noqa: S603
        command, stdout=stdout, stderr=stderr, text=True, env=inherited | variables, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        process.kill()
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


@contextmanager
def serving(bundle: str | Path, *options: str, errors: IO[str] | None = None, **variables: str) -> Iterator[Server]:
    """Run the real server on a free port; yield it once it is ready, end it after.

    Args:
        bundle: an ONNX bundle.
        options: more options of `python -m serve`.
        errors: the file that takes its errors; without one they are part of the error that says why it did not start.
        variables: environment variables, added to this process's own.

    Raises:
        ToolkitError: the server does not become ready.
    """
    command = [sys.executable, "-m", "serve", str(bundle), "--port", "0", *options]
    with (
        tempfile.TemporaryFile("w+") as log,
        launch(command, stdout=subprocess.PIPE, stderr=errors or log, **child_environment(), **variables) as process,
    ):
        assert process.stdout is not None
        limit, started = threading.Timer(START_TIMEOUT_S, process.kill), time.monotonic()
        limit.start()
        try:
            line = process.stdout.readline()  # printed once the server is ready; empty when it has ended
        finally:
            limit.cancel()  # else Ctrl-C would wait for it
        address = re.search(r"POST http://(\S+?):(\d+)", line)  # a fallback's URL may stand before it
        if not address:
            log.seek(0)
            late = f" within {START_TIMEOUT_S:g} s" if time.monotonic() - started >= START_TIMEOUT_S else ""
            raise ToolkitError(f"the server did not start{late}: {line}{log.read().strip()}")
        echo(line.strip())
        yield Server(address[1], int(address[2]), process)
