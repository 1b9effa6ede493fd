"""HTTP/1.1 by uvicorn's httptools protocol, with a limit on headers and word of clients that leave."""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.request_record import RequestRecord, record_of

HEAD_BYTES = 65_536  # of a request's line and headers, its trailers, or the bytes between two parts of its body


class Connection(HttpToolsProtocol):
    """A connection that closes where headers do not end, and tells every request of it when the client leaves.

    httptools keeps endless headers in memory. Of several pipelined requests uvicorn tells only the last that the client
    has left; the others would run for nobody and fail when they answer. A future in the request's record costs an
    application less than a task that waits for a message.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waited = 0  # bytes since the parser last completed a part
        self._unanswered: list[RequestResponseCycle] = []

    def data_received(self, data: bytes) -> None:
        """Feed the parser; asyncio calls this."""
        self._waited += len(data)
        super().data_received(data)
        if self._waited > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Headers too large.")

    def on_headers_complete(self) -> None:
        """Start the request; the parser calls this."""
        self._waited = 0
        super().on_headers_complete()
        if self.cycle is not None:
            self._unanswered = [*(cycle for cycle in self._unanswered if not cycle.response_complete), self.cycle]
            _record(self.cycle).disconnected = self.loop.create_future()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the parser calls this."""
        self._waited = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request that has no answer yet; asyncio calls this."""
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                disconnected = _record(cycle).disconnected
                if disconnected is not None and not disconnected.done():
                    disconnected.set_result(None)
        super().connection_lost(exc)


def _record(cycle: RequestResponseCycle) -> RequestRecord:
    return record_of(cast(dict[str, Any], cycle.scope))
