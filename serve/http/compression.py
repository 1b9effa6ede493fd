"""Compressed bodies: gzip and deflate, decompressed piece by piece, so that a limit on bytes stops a bomb in time."""

from __future__ import annotations

import zlib

from starlette.types import Message, Receive

from serve.exceptions import ServeError

PIECE = 65_536  # bytes of a decompressed part
ENCODINGS = (b"gzip", b"x-gzip", b"deflate")


class Decompressed:
    """An ASGI `receive` that decompresses the body of another.

    Args:
        receive: gives the compressed body.
        encoding: the request's Content-Encoding.
    """

    def __init__(self, receive: Receive, encoding: bytes) -> None:
        self._receive, self._encoding = receive, encoding.strip().lower()
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # the data says whether it is gzip or zlib
        self._input, self._more_input, self._done = b"", True, False

    async def __call__(self) -> Message:
        """Return the next part of the body, at most PIECE bytes, or a message of another type as it is.

        Raises:
            ServeError: 415, the encoding is not known; 422, the body is not so encoded, or ends early.
        """
        if self._encoding not in ENCODINGS:
            problem = f"Content-Encoding is {self._encoding.decode('latin-1')[:40]}: expected gzip or deflate"
            raise ServeError("Validation", problem, status=415)
        if self._done:
            return await self._receive()
        if not self._input and self._more_input:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._input, self._more_input = message.get("body", b""), message.get("more_body", False)
        part = self._decompress()
        if len(part) < PIECE and not self._input and not self._more_input:
            self._done = True
            if not self._decoder.eof:
                raise ServeError("Validation", "the compressed body ends early")
        return {"type": "http.request", "body": part, "more_body": not self._done}

    def _decompress(self) -> bytes:
        try:
            part = self._decoder.decompress(self._input, PIECE)
        except zlib.error:
            raise ServeError("Validation", f"the body is not {self._encoding.decode()}") from None
        self._input = self._decoder.unconsumed_tail
        if self._decoder.unused_data:
            raise ServeError("Validation", "bytes follow the end of the compressed body")
        return part
