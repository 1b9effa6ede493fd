"""One line a request, for machines or for people, on stderr; what users send is never in it."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.api_keys import SAFE_HEADERS
from serve.http.error_handlers import error_response
from serve.log_format import faults, requests

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
PROBE_PATHS = {
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
}  # asked every few seconds: told only when they fail
SAFE = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]
POLICY = b"content-security-policy"
PAGES = ("/docs", "/static-offline-docs")  # FastAPI's page has a script in it


class AccessLogMiddleware:
    """Outermost ASGI middleware: every response has a request id, its model and safe headers, every request a line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer also what nobody else did: a fault of the server is a 500 like any other error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), *state.get("headers", ())]
                _seal(message, own, scope["path"])
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # the server is shutting down, and its time for this request is over
            if status:
                raise
            await error_response(scope, "Unhealthy", "shutting down", 503)(scope, receive, sending)
        except Exception as error:
            faults.error("internal error", exc_info=error, extra={"fields": {"request_id": request_id}})
            if status:
                raise
            message = "internal error; the server's log says more"
            await error_response(scope, "Backend", message, 500)(scope, receive, sending)
        finally:
            routine = status < 400 and scope["path"] in PROBE_PATHS
            if requests.isEnabledFor(logging.INFO) and not routine:
                fields = {
                    "request_id": request_id, "method": scope["method"], "path": quote(scope["path"])[:200],
                    "status": status, "total_ms": round((time.perf_counter() - started) * 1000, 3),
                    **state.get("log", {}),
                }  # fmt: skip
                requests.info("request", extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    """The client's own id when it is one, else a new one: unique, no secret, and without asking the system for it."""
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def _seal(message: Message, own: list[tuple[bytes, bytes]], path: str) -> None:
    """Add our headers; of the safe ones, those that the answer does not set itself."""
    given = list(message["headers"])
    names = {name for name, _ in given}
    if path.startswith(PAGES):
        names.add(POLICY)
    safe = [one for one in SAFE if one[0] not in names]
    message["headers"] = [*given, *own, *safe]
