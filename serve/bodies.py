"""Requests with a JSON body: read and checked, and nothing else looked at.

FastAPI searches every request for what an endpoint might ask for: parameters of queries, headers and cookies, forms,
dependencies. Ours ask for a body alone, and the search costs them as much as all the rest of a small answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from serve.schemas import ServeError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BodyRoute(APIRoute):
    """A route whose endpoint takes the request, its body and the parts of its path, as strings, and returns a Response.

    What /docs tells of it is FastAPI's own.
    """

    def get_route_handler(self) -> Handler:
        """Called by FastAPI, once for each route."""
        field, endpoint = self.body_field, self.endpoint
        if field is None:
            return super().get_route_handler()
        name, missing = field.name, {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}

        async def handle(http: Request) -> Response:
            content = await _content(http)
            found, errors = field.validate(_json(content), loc=("body",)) if content else (None, [missing])
            if errors:
                raise RequestValidationError(errors)
            answer: Response = await endpoint(http, **http.path_params, **{name: found})
            return answer

        return handle


async def _content(http: Request) -> bytes:
    """The body.

    Raises:
        ServeError: 415, it is not said to be JSON; 422, the client left before its end.
    """
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        message = f"Content-Type is {kind or 'missing'}: expected application/json"
        raise ServeError("Validation", message, status=415)
    try:
        return await http.body()
    except ClientDisconnect:
        raise ServeError("Validation", "the client left before the end of its request") from None


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
