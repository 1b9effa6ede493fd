"""An HTTP/1.1 client that keeps its connection open and costs little.

A load generator runs on the cores that it measures, so the client is a bare asyncio protocol, which uvloop runs too: a
request is bytes that are made beforehand; of an answer the client reads status, Content-Length and body. It follows no
redirects and knows no chunked answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.request import Request, urlopen

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Address:
    """Host and port that a server listens on."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Such as "http://127.0.0.1:8080"."""
        return f"http://{self.host}:{self.port}"

    def get(self, path: str) -> str:
        """GET a path; the body of the answer."""
        with urlopen(f"{self.url}{path}", timeout=TIMEOUT_S) as answer:  # noqa: S310
            return str(answer.read().decode())

    def predict(self, text: str) -> Any:
        """POST one text to /predict; the parsed answer, [{"score", "label"}...], best first."""
        body = json.dumps({"inputs": text}).encode()
        request = Request(f"{self.url}/predict", body, {"content-type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)

    def metric(self, name: str) -> float:
        """Sum a metric's samples over its labels."""
        samples = re.findall(rf"^{re.escape(name)}(?:{{.*?}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, samples))


def post(body: Any, path: str = "/predict", headers: Sequence[str] = ()) -> bytes:
    """Write a POST request as bytes; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and how long after its request it came; status 0 when the connection ended without an answer."""

    status: int
    body: bytes
    seconds: float = 0.0


class Connection(asyncio.Protocol):
    """A keep-alive connection: a request at a time, or several written at once and answered in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: deque[tuple[asyncio.Future[Reply], float]] = deque()  # and when each was sent
        self.transport: asyncio.Transport | None = None
        self.closed = False

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """Establish a connection."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, address.host, address.port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio calls this."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Give every complete answer to its request; asyncio calls this."""
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
            waiting, sent = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(Reply(status, body, time.perf_counter() - sent))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Answer every waiting request with status 0; asyncio calls this."""
        self.closed = True
        for waiting, sent in self._waiting:
            if not waiting.done():
                waiting.set_result(Reply(0, b"", time.perf_counter() - sent))
        self._waiting.clear()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.transport is not None
        self.transport.write(data)

    def reply(self) -> asyncio.Future[Reply]:
        """Wait for the next answer that nobody waits for yet."""
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
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()
