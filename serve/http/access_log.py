"""The access log: one line for each request on stderr, without anything that a user sent."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.error_handlers import error_response
from serve.http.request_record import record_of
from serve.log_format import requests, server_log

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
PROBE_PATHS = {
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
}  # probes ask often: only their failures are logged


class AccessLogMiddleware:
    """ASGI middleware: gives every response a request id and its model's headers, and every request a line in the log.

    An exception that nothing inside has handled becomes a 500 in the usual shape.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        request_id, record = _request_id(scope), record_of(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = ((b"x-request-id", request_id.encode()), *record.model_headers)
                message["headers"] = [*message["headers"], *own]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server shuts down, and the time for this request is over
            if status:
                raise
            await error_response(scope, "Unhealthy", "shutting down", 503)(scope, receive, send_with_id)
        except Exception as error:
            server_log.error("internal error", exc_info=error, extra={"fields": {"request_id": request_id}})
            if status:
                raise
            message = "internal error; the server's log says more"
            await error_response(scope, "Backend", message, 500)(scope, receive, send_with_id)
        finally:
            routine = status < 400 and scope["path"] in PROBE_PATHS
            if requests.isEnabledFor(logging.INFO) and not routine:
                fields = {
                    "request_id": request_id, "method": scope["method"], "path": quote(scope["path"])[:200],
                    "status": status, "total_ms": round((time.perf_counter() - started) * 1000, 3),
                    **record.facts(),
                }  # fmt: skip
                requests.info("request", extra={"fields": fields})


def _request_id(scope: Scope) -> str:
    """Return the client's own id where it is valid, else a new one, which is unique but no secret."""
    client_id = dict(scope["headers"]).get(b"x-request-id", b"")
    return client_id.decode() if REQUEST_ID.fullmatch(client_id) else f"{random.getrandbits(128):032x}"
