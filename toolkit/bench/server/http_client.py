"""An HTTP/1.1 client that keeps its connection open, for the load generators."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.request import urlopen

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
