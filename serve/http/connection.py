"""HTTP/1.1 by uvicorn's httptools protocol, with limits on headers, times and open connections."""

from __future__ import annotations

import json
import logging
import resource
import time
from asyncio import BaseTransport, TimerHandle
from collections.abc import Collection
from enum import Enum, auto
from operator import itemgetter
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.request_record import RequestRecord, record_of

HEAD_BYTES = 65_536  # of a request's line and headers, its trailers, or the bytes between two parts of its body
MOST_UNANSWERED = 64  # requests that a client sends before it has answers; those behind them are left unread
HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its headers
BODY_SECONDS = 30.0  # from there to the end of its body
RESERVED_FILES = 64  # of the process's limit on open files: models, logs, and what libraries open
WARNING_SECONDS = 60.0  # between two lines in the log about too many connections
HEADERS_TOO_LARGE, NOT_HTTP = "Headers too large.", "Invalid HTTP request received."
log = logging.getLogger("serve")


class Phase(Enum):
    """The part of a request that a connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class Connection(HttpToolsProtocol):
    """A connection that closes where a request does not end in time or size, and tells requests that the client left.

    httptools keeps endless headers in memory, and uvicorn waits forever for the rest of a request. Of several pipelined
    requests uvicorn tells only the last that the client has left; the others would run for nobody and fail when they
    answer. A future in the request's record costs an application less than a task that waits for a message.

    One read may bring 10,000 pipelined requests. After `MOST_UNANSWERED` the connection reads no more, and ends with
    the last answer; HTTP has the client ask again for the rest. An offer to upgrade, which Java's client makes with
    every first request, is passed over: httptools by itself would leave out the body.

    At the process's limit of open files the connections that have been idle longest make room for new ones.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waited = 0  # bytes since the parser last completed a part
        self._unanswered: list[RequestResponseCycle] = []
        self._ends = False  # no request after these is read
        self._phase, self._since = Phase.IDLE, time.monotonic()
        self._timed = Phase.IDLE  # the phase that the timer is for
        self._timer: TimerHandle | None = None  # most requests come whole and need none

    @property
    def idle_since(self) -> float | None:
        """When the connection last had a request, seconds by the monotonic clock; None while it has one."""
        busy = self._phase is Phase.BODY or any(not cycle.response_complete for cycle in self._unanswered)
        return None if busy else self._since

    def connection_made(self, transport: BaseTransport) -> None:
        """Start to wait for a request; asyncio calls this."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._on_timeout)
        make_room(cast(set[Connection], self.connections))

    def data_received(self, data: bytes) -> None:
        """Feed the parser; asyncio calls this."""
        if not self._reads():
            return
        if self._phase is Phase.IDLE:
            self._phase = Phase.HEAD
        self._waited += len(data)
        self._parse(data)
        if not self._reads():
            self._cancel_timer()
        elif self._waited > HEAD_BYTES:
            self.refuse("431 Request Header Fields Too Large", HEADERS_TOO_LARGE)
        elif self._phase is not self._timed:
            self._cancel_timer()
            self._timed = self._phase
            seconds = HEAD_SECONDS if self._phase is Phase.HEAD else BODY_SECONDS
            self._timer = self.loop.call_later(seconds, self._on_timeout)

    def _parse(self, data: bytes) -> None:
        """Feed the parser; a request that offers an upgrade goes through it once more without the offer."""
        self._unset_keepalive_if_required()
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    return
                except HttpParserUpgrade as offer:
                    data = self._head_without_upgrade() + data[offer.args[0] :] if self._reads() else b""
        except HttpParserError:
            log.warning(NOT_HTTP)
            self.refuse("400 Bad Request", NOT_HTTP)

    def on_message_begin(self) -> None:
        """Start a request; the parser calls this."""
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        if len(self._unanswered) == MOST_UNANSWERED:
            self._ends, self.cycle.keep_alive = True, False
        if self._reads():
            super().on_message_begin()
            self._phase = Phase.HEAD

    def on_headers_complete(self) -> None:
        """Start the request; the parser calls this."""
        if not self._reads():
            return
        waited, self._waited = self._waited, 0
        if waited > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            self.refuse("431 Request Header Fields Too Large", HEADERS_TOO_LARGE)
            return
        if problem := self._problem():
            self.refuse("400 Bad Request", problem)
            return
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self._phase = Phase.BODY
        self._unanswered.append(self.cycle)
        _record(self.cycle).disconnected = self.loop.create_future()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the parser calls this."""
        self._waited = 0
        if self._reads():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; the parser calls this."""
        if self._reads() and not self.parser.should_upgrade():
            super().on_message_complete()
            self._phase = self._timed = Phase.IDLE
            self._since = time.monotonic()
            self._cancel_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request that has no answer yet; asyncio calls this."""
        self._cancel_timer()
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                disconnected = _record(cycle).disconnected
                if disconnected is not None and not disconnected.done():
                    disconnected.set_result(None)
        super().connection_lost(exc)

    def refuse(self, status: str, message: str) -> None:
        """Answer with an error in the shape of all errors, and close; an answer that is due to others is not given."""
        begun = self._phase is Phase.BODY and self.cycle.response_started
        if not begun and not self._others_wait():
            body = json.dumps({"error": message, "error_type": "Validation"}, separators=(",", ":")).encode()
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def _reads(self) -> bool:
        """Return whether what arrives is for a request that may have an answer."""
        return not (self._ends or self.transport.is_closing())

    def _others_wait(self) -> bool:
        """Return whether requests before the one that arrives now have no answer yet."""
        own = self.cycle if self._phase is Phase.BODY else None
        return any(not cycle.response_complete for cycle in self._unanswered if cycle is not own)

    def _head_without_upgrade(self) -> bytes:
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join((line, *kept, b"\r\n"))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _problem(self) -> str | None:
        if self.parser.get_method() == b"CONNECT":
            return "CONNECT: this server is no proxy"
        hosts = list(map(itemgetter(0), self.headers)).count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            return f"the request has {hosts or 'no'} Host headers: expected one"
        return None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._phase is Phase.IDLE:
            self.transport.close()
        elif self.flow.read_paused or self._others_wait():  # it is the server that is late
            self._timer = self.loop.call_later(BODY_SECONDS, self._on_timeout)
        else:
            self.refuse("408 Request Timeout", "the request did not end in time")


def make_room(connections: Collection[Connection]) -> None:
    """Close the connections that have been idle longest where the process is near its limit of open files."""
    if len(connections) <= connection_limit():
        return
    idle = [(since, connection) for connection in connections if (since := connection.idle_since) is not None]
    for _, connection in sorted(idle, key=itemgetter(0))[: 1 + len(connections) // 16]:
        connection.transport.close()
    _warn(len(connections))


def connection_limit() -> int:
    """The number of connections that the process's limit of open files leaves room for."""
    return max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES)


_warned = -WARNING_SECONDS


def _warn(count: int) -> None:
    global _warned
    if time.monotonic() - _warned >= WARNING_SECONDS:
        _warned = time.monotonic()
        log.warning("%d connections reach the limit of open files: those idle longest are closed", count)


def _record(cycle: RequestResponseCycle) -> RequestRecord:
    return record_of(cast(dict[str, Any], cycle.scope))
