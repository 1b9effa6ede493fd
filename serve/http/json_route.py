"""Requests with a JSON body: read and checked, and nothing else looked at.

FastAPI searches every request for what an endpoint might ask for: parameters of queries, headers and cookies, forms,
dependencies. Ours ask for a body alone, and the search costs them as much as all the rest of a small answer.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from serve.exceptions import ServeError

MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}


class JsonRoute(APIRoute):
    """A route whose endpoint takes the request, its body and the parts of its path, as strings, and returns a Response.

    What /docs tells of it is FastAPI's own; so are the answers to what is raised.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.body_field is not None:
            self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        field = self.body_field
        assert field is not None
        http = Request(scope, receive, send)
        content = await _content(http)
        found, errors = field.validate(_json(content), loc=("body",)) if content else (None, [MISSING])
        if errors:
            raise RequestValidationError(errors)
        response = await self.endpoint(http, **http.path_params, **{field.name: found})
        await response(scope, receive, send)


async def _content(http: Request) -> bytes:
    """The body.

    Raises:
        ServeError: 415, it is not said to be JSON; 422, the client left before its end.
    """
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        problem = f"Content-Type is {kind or 'missing'}: expected application/json"
        raise ServeError("Validation", problem, status=415)
    parts: list[bytes] = []
    while True:
        message = await http.receive()
        if message["type"] == "http.disconnect":
            raise ServeError("Validation", "the client left before the end of its request")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _json(content: bytes) -> Any:
    """What a body says.

    Raises:
        ServeError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} at character {error.pos}"
    except (ValueError, RecursionError):  # not UTF-8, or a number of thousands of digits
        message = "the body is not JSON in UTF-8"
    raise ServeError("Validation", message)
