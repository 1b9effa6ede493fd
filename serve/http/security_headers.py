"""Headers that keep a browser from doing more with a response than showing it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}  # fmt: skip
PAGES = ("/docs", "/static-offline-docs")  # FastAPI's page holds a script, which the policy would forbid
_ENCODED = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_NAMES = frozenset(name for name, _ in _ENCODED)
_POLICY = b"content-security-policy"


class SecurityHeadersMiddleware:
    """ASGI middleware: adds to every response those security headers that the response does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and extend its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                missing, present = _ENCODED, dict(message["headers"])
                if scope["path"].startswith(PAGES):
                    present[_POLICY] = b""
                if not _NAMES.isdisjoint(present):  # rarely: nothing is compared one by one for the other responses
                    missing = [header for header in _ENCODED if header[0] not in present]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await self.app(scope, receive, send_with_headers)
