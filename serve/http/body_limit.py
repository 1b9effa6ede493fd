"""Limits on bodies: of one request, and of all that are held at a time."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.exceptions import ServeError
from serve.http.compression import Decompressed
from serve.http.error_handlers import error_response

HELD_TOGETHER = 16  # bodies of the largest size that are held at a time, and as many bytes again of small ones
LEAST_HELD = 32_000_000  # bytes, where the largest size is small
SMALL = 65_536  # bytes: large bodies never take the room of small ones


class BodyLimit:
    """ASGI middleware: refuses a body larger than `limit` bytes before it is held, and any body when too much is held.

    A body is held until its request is answered, since its texts wait as long. The limit on all of them bounds the
    memory of the process, however many clients send.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit
        self._most = max(HELD_TOGETHER * limit, LEAST_HELD)
        self._held = {False: 0, True: 0}  # bytes of bodies so far small, and of large ones
        self._unremarkable = min(SMALL, limit)  # bytes of a body so far for which nothing but the sum is checked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse by Content-Length at once; otherwise count the bytes that arrive."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.limit:
            problem = f"the body is larger than {self.limit} bytes"
            await error_response(scope, "Validation", problem, 413)(scope, receive, send)
            return
        if b"content-encoding" in headers and headers[b"content-encoding"] != b"identity":
            receive = Decompressed(receive, headers[b"content-encoding"])  # inside the limit: it counts what is held
        arrived, large = 0, False

        async def counted() -> Message:
            """Receive a part of the body and count it; refuse what is too much."""
            nonlocal arrived, large
            part = await receive()
            size = len(part.get("body", b""))
            if arrived + size > self._unremarkable:
                if arrived + size > self.limit:
                    raise HTTPException(413, f"the body is larger than {self.limit} bytes")
                if not large:
                    large = True
                    self._held[False] -= arrived
                    self._held[True] += arrived
            self._held[large] += size
            arrived += size
            if self._held[large] > self._most:
                raise ServeError("Overloaded", "Model is overloaded: too many bodies at a time", retry_after=1)
            return part

        try:
            await self.app(scope, counted, send)
        finally:
            self._held[large] -= arrived
