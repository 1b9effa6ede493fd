"""What the serve_* benchmarks share: a server process, texts, and an HTTP/1.1 client that costs little.

The client runs on the cores that it measures, so it is a bare asyncio protocol, which uvloop runs too: requests are
bytes made beforehand, and of an answer it reads the status, Content-Length and body. It follows no redirects and knows
no chunked answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import numpy as np

from benchmarks.results import RESULTS, ROOT

IDLE_SECONDS = 2.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def get(self, path: str) -> str:
        """The body of a GET."""
        with urlopen(f"http://{self.host}:{self.port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over its labels."""
        found = re.findall(rf"^{re.escape(name)}(?:{{.*?}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))


@contextmanager
def spawn(command: Sequence[str], stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, numerical libraries at one thread; all of it is killed afterwards."""
    process = subprocess.Popen(
        command, stdout=stdout, text=True, cwd=ROOT, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """`python -m serve` with these options, once it has said its address."""
    with spawn((sys.executable, "-m", "serve", *options), subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            raise SystemExit(f"the server did not start: {line}")
        yield process, Address(found[1], int(found[2]))


def post(body: Any, path: str = "/predict", headers: Sequence[str] = ()) -> bytes:
    """A request as bytes; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and how long after it was asked for; status 0 when the connection ended without an answer."""

    status: int
    body: bytes
    seconds: float = 0.0


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time, or several written at once and read in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()  # and when each was asked for
        self.transport: asyncio.Transport | None = None
        self.closed = False

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """A connection that is established."""
        _, made = await asyncio.get_running_loop().create_connection(cls, address.host, address.port)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: give every complete answer to whom it belongs."""
        self._buffer += data
        while self._waiting:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._buffer, 0, end + 2)
            size = int(length[1]) if length else 0
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            status = int(self._buffer[9:12])
            del self._buffer[: end + 4 + size]
            waiting, asked = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(Reply(status, body, time.perf_counter() - asked))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Called by asyncio: what is still waited for will not come."""
        self.closed = True
        for waiting, asked in self._waiting:
            if not waiting.done():
                waiting.set_result(Reply(0, b"", time.perf_counter() - asked))
        self._waiting.clear()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.transport is not None
        self.transport.write(data)

    def reply(self) -> asyncio.Future[Reply]:
        """The next answer not yet asked for."""
        waiting = asyncio.get_running_loop().create_future()
        if self.closed:
            waiting.set_result(Reply(0, b""))
        else:
            self._waiting.append((waiting, time.perf_counter()))
            if self._buffer:
                self.data_received(b"")
        return waiting

    async def ask(self, request: bytes) -> Reply:
        """Send a request and wait for its answer."""
        waiting = self.reply()
        if not self.closed:
            self.write(request)
        return await waiting

    def close(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()


@dataclass
class Load:
    """The replies to the requests that were sent, by the number of the request, and how long all took."""

    replies: dict[int, Reply] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, *statuses: int) -> int:
        """How many answers had one of these statuses."""
        return sum(reply.status in statuses for reply in self.replies.values())

    def milliseconds(self, *quantiles: float, status: int = 200) -> list[float]:
        """Quantiles of the latency of the answers with a status; NaN when there are none."""
        found = [1000 * reply.seconds for reply in self.replies.values() if reply.status == status]
        return [round(float(one), 3) for one in np.quantile(found or [np.nan], quantiles)]


async def closed_loop(address: Address, requests: Sequence[bytes], connections: int) -> Load:
    """Send every request once over so many connections, each with one under way; those that end are renewed."""
    load, left = Load(), iter(range(len(requests)))

    async def work(connection: Connection) -> None:
        for number in left:
            if connection.closed:
                connection = await Connection.open(address)
            load.replies[number] = await connection.ask(requests[number])
        connection.close()

    opened = [await Connection.open(address) for _ in range(connections)]
    started = time.perf_counter()
    await asyncio.gather(*map(work, opened))
    load.seconds = time.perf_counter() - started
    return load


async def open_loop(address: Address, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Send requests at a rate whatever comes back, as many users who know nothing of each other would.

    Latency counts from when a request is due. A connection idle for `IDLE_SECONDS` is not used again: the server may
    be about to close it.
    """
    load, idle, tasks = Load(), list[tuple[float, Connection]](), set[asyncio.Task[None]]()

    async def one(number: int) -> None:
        due = time.perf_counter()
        connection = None
        while idle and connection is None:
            since, found = idle.pop()
            connection = None if found.closed or due - since > IDLE_SECONDS else found
        connection = connection or await Connection.open(address)
        reply = await connection.ask(requests[number % len(requests)])
        load.replies[number] = Reply(reply.status, reply.body, time.perf_counter() - due)
        if not connection.closed:
            idle.append((time.perf_counter(), connection))

    started, number = time.perf_counter(), 0
    while (now := time.perf_counter() - started) < seconds:
        for due in range(number, int(now * rate)):
            task = asyncio.create_task(one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        number = max(number, int(now * rate))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - started
    for _, connection in idle:
        connection.close()
    return load


def dev_texts(data: str | None, count: int) -> list[str]:
    """Sentences to classify: SST-2's dev set in a folder, or without one the embedded Rotten Tomatoes'."""
    from toolkit.data import load_split
    from toolkit.tasks import get_task

    texts = load_split(get_task("sst2" if data else "rotten-tomatoes"), "dev", data).texts
    return [texts[i % len(texts)] for i in range(count)]


def resident_bytes(pid: int) -> int:
    """Memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def save(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json, with the machine it was measured on, and print it."""
    from toolkit.machine import environment

    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    whole = {**result, "environment": environment()}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
