"""HTTP/1.1 by httptools, which is fast, with three things that it lacks."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

DISCONNECTED = "left"  # of a request's state: a future that is done when the client has left before its answer
HEAD_BYTES = 65_536  # of a request's line and headers, its trailers, or what stands between two parts of its body


class Connection(HttpToolsProtocol):
    """Closes a connection whose headers do not end: httptools keeps whatever comes, and memory with it.

    When the client leaves, every request that it sent is told. Of several sent at once uvicorn tells the last alone, so
    that one that runs would go on for nobody and fail when it answers. An application may wait for that by LEFT, which
    costs it less than a task that waits for a message.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waited = 0  # bytes since the request last got on
        self._unanswered: list[RequestResponseCycle] = []

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._waited += len(data)
        super().data_received(data)
        if self._waited > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Headers too large.")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._waited = 0
        super().on_headers_complete()
        if self.cycle is not None:
            self._unanswered = [*(one for one in self._unanswered if not one.response_complete), self.cycle]
            self.cycle.scope["state"][DISCONNECTED] = self.loop.create_future()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._waited = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                left: asyncio.Future[None] = cycle.scope["state"][DISCONNECTED]
                if not left.done():
                    left.set_result(None)
        super().connection_lost(exc)
