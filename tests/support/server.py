"""The real server in a process of its own, and a client to ask it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import uvicorn

from serve.__main__ import listen, main
from serve.http.connection import Connection
from tests.support.paths import ROOT

WAIT = 30.0  # for what should take a moment; only a hang reaches it


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that has said it is ready, and its address."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://[\d.]+:\d+", line)
        assert url, line + process.communicate(timeout=WAIT)[1]
        yield process, url.group()
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


@contextmanager
def in_thread(app: Any, **settings: Any) -> Iterator[tuple[str, int]]:
    """The server's connections around any ASGI application, in a thread of this process; host and port."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, http=Connection, log_config=None, access_log=False, lifespan="off", **settings)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = server.force_exit = True
            thread.join(WAIT)


def ask(address: str, path: str, body: Any = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(address + path, data, {"Content-Type": "application/json"}), timeout=WAIT) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def until(address: str, pattern: str) -> None:
    """Wait until /metrics shows a line that matches."""
    end = time.monotonic() + WAIT
    while not re.search(pattern, shown := ask(address, "/metrics")[1], re.MULTILINE):
        assert time.monotonic() < end, shown
        time.sleep(0.01)


def exit_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().err


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, argument) pairs, comments dropped and continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]
