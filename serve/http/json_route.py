"""A route for JSON bodies that skips FastAPI's search for other parameters.

FastAPI searches every request for parameters of queries, headers, cookies, forms and dependencies. Our endpoints take a
body alone, and the search costs as much as the rest of a small answer: benchmarks/results/serve_shortcuts.json.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from serve.exceptions import ServeError

MAX_VALUES = 65_536  # of a body: to parse more would hold the event loop for long
SLICE = 65_536  # bytes in which values are counted at a time
LARGE = 65_536  # bytes of a body that is read in a turn of its own
PAUSE = 9.0  # times the seconds of a turn: large bodies hold the event loop for a tenth of its time at most
MAX_DIGITS = 640  # of a number in a large body, the least that Python can be told: time grows with their square
MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}


class Turns:
    """Turns of large bodies, one at a time, each with a pause behind it in which the event loop serves all others.

    To parse and check 2 MB takes some 10 ms. Python's parser holds the interpreter meanwhile, so that a thread would
    not help; many clients that send such bodies at once would hold up small requests for as many times as long.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._free = 0.0  # when the next turn may begin

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, which begins a pause after the one before."""
        async with self._lock:
            await asyncio.sleep(self._free - time.perf_counter())
            started = time.perf_counter()
            try:
                yield
            finally:
                ended = time.perf_counter()
                self._free = ended + PAUSE * (ended - started)


class JsonRoute(APIRoute):
    """A route whose endpoint takes the request, its body and the parts of its path, as strings, and returns a Response.

    Its page in /docs and the answers to its exceptions are FastAPI's own.

    Attributes:
        types: values of Content-Type that it reads, besides those of JSON.
    """

    types: tuple[str, ...] = ("application/json",)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; an endpoint without a body, and another method, are FastAPI's to answer."""
        field = self.body_field
        if field is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        http = Request(scope, receive, send)
        self.check_type(http)
        content = await read_body(http)
        if len(content) > LARGE:
            turns: Turns = http.app.state.turns
            async with turns.turn():
                body = self.checked(http, content, field.validate)
        else:
            body = self.checked(http, content, field.validate)
        del content  # what is parsed may wait for long
        response: Response = await self.endpoint(http, **http.path_params, **{field.name: body})
        await response(scope, receive, send)

    def check_type(self, http: Request) -> None:
        """Check the Content-Type.

        Raises:
            ServeError: 415, it is not JSON.
        """
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in self.types and not (kind.startswith("application/") and kind.endswith("+json")):
            problem = f"Content-Type is {kind or 'missing'}: expected {self.types[0]}"
            raise ServeError("Validation", problem, status=415)

    def checked(self, http: Request, content: bytes, validate: Callable[..., tuple[Any, list[Any]]]) -> Any:
        """Parse a body and make the endpoint's request of it.

        Raises:
            ServeError: it is not JSON.
            RequestValidationError: it is empty, or no such request.
        """
        body, errors = validate(self.read(http, content), loc=("body",))
        if errors:
            raise RequestValidationError(errors)
        return body

    def read(self, http: Request, content: bytes) -> Any:  # noqa: ARG002  # other routes read a header
        """Parse a body."""
        return parse_json(content)


async def read_body(http: Request) -> bytes:
    """Read the body.

    Raises:
        ServeError: 422, the client left before its end.
    """
    parts: list[bytes] = []
    while True:
        message = await http.receive()
        if message["type"] == "http.disconnect":
            raise ServeError("Validation", "the client left before the end of its request")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def parse_json(content: bytes) -> Any:
    """Parse a body.

    Raises:
        ServeError: it is not JSON, nested too deeply, or holds too many values.
        RequestValidationError: it is empty.
    """
    if not content:
        raise RequestValidationError([MISSING])
    if len(content) > MAX_VALUES and _values(content) > MAX_VALUES:
        raise ServeError("Validation", f"the body holds more than {MAX_VALUES} values")
    try:
        return _parse_large(content) if len(content) > MAX_VALUES else json.loads(content)
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} at character {error.pos}"
    except (UnicodeDecodeError, RecursionError):
        message = "the body is not JSON in UTF-8"
    except ValueError:
        message = "the body is not JSON that can be read: it holds a number of hundreds of digits"
    raise ServeError("Validation", message)


def _parse_large(content: bytes) -> Any:
    """Parse a large body without what would make it slow.

    The garbage collector would walk the new lists and objects again and again. Python's limit on digits, 4,300 unless
    told otherwise, lets 2 MB of numbers hold the interpreter for 40 ms; no other thread runs meanwhile, and sees it.
    """
    collecting, digits = gc.isenabled(), sys.get_int_max_str_digits()
    gc.disable()
    sys.set_int_max_str_digits(MAX_DIGITS)
    try:
        return json.loads(content)
    finally:
        sys.set_int_max_str_digits(digits)
        if collecting:
            gc.enable()


def _values(content: bytes) -> int:
    """Count the values of a body, or so many that they are too many, in far less time than parsing takes.

    Each value but the first stands behind a comma, a colon or a bracket. Where there are many of these, those inside
    strings are left out. Both counts go slice by slice and end where there are too many.
    """
    count = 0
    for start in range(0, len(content), SLICE):
        count += _separators(content[start : start + SLICE])
        if count > MAX_VALUES:
            return _values_outside_strings(content)
    return 0


def _values_outside_strings(content: bytes) -> int:
    count, start, inside = 0, 0, False
    while start < len(content) and count <= MAX_VALUES:
        part = content[start : start + SLICE]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:
            part = content[start : start + SLICE + 1]  # an escape stays whole
        start += len(part)
        pieces = part.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        count += _separators(b"".join(pieces[inside::2]))
        inside ^= len(pieces) % 2 == 0
    return count


def _separators(content: bytes) -> int:
    return len(content) - len(content.translate(None, b",:[{"))
