"""Who may ask: API keys, and the headers that keep a browser from doing more with an answer than show it."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.exceptions import NO_KEY
from serve.http.error_handlers import error_response
from toolkit.errors import ToolkitError

KEYS_VARIABLE, ADMIN_KEYS_VARIABLE = "TOOLKIT_API_KEYS", "TOOLKIT_ADMIN_KEYS"
OPEN_PATHS = {"/", "/health", "/health/live", "/health/ready"}  # probes hold no keys; the page at / asks for one
CHALLENGE = {"WWW-Authenticate": "Bearer"}
SAFE_HEADERS = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}  # fmt: skip


class ApiKeySet:
    """The keys a server accepts, held as SHA-256 only, so that no log or message of ours can show one.

    Raises:
        ToolkitError: a key that no header could carry; told without the key.
    """

    def __init__(self, keys: Iterable[str] = (), source: str = "keys") -> None:
        given = list(keys)
        for number, key in enumerate(given, 1):
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ToolkitError(f"{source}: key {number} has a space or a character that is not ASCII")
        self._digests = tuple(_digest(key.encode()) for key in given)

    @classmethod
    def load(cls, file: str | None, variable: str = KEYS_VARIABLE, option: str = "--api-keys-file") -> ApiKeySet:
        """Keys of an environment variable, separated by commas, and of a file, one a line; neither given: no keys.

        Raises:
            ToolkitError: the file cannot be read, or one of the two is given and holds no key, which would leave
                open what was meant to be closed.
        """
        found: list[str] = []
        if os.environ.get(variable):
            found += _non_empty(os.environ[variable].split(","), variable)
        if file is not None:
            try:
                lines = Path(file).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                problem = getattr(error, "strerror", None) or "not UTF-8"
                raise ToolkitError(f"{option} {file}: {problem}", expected="a file of one key a line") from None
            found += _non_empty(lines, f"{option} {file}")
        return cls(found, file or variable)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def shares(self, other: ApiKeySet) -> bool:
        """Whether one key is in both."""
        return not set(self._digests).isdisjoint(other._digests)

    def accept(self, authorization: bytes) -> bool:
        """Whether an Authorization header holds one of the keys; the time taken does not depend on which, if any."""
        scheme, _, key = authorization.partition(b" ")
        asked = _digest(key.strip())
        matches = [hmac.compare_digest(asked, one) for one in self._digests]
        return any(matches) and scheme.lower() == b"bearer"


class ApiKeyMiddleware:
    """ASGI middleware: 401 without a key, before the body is read; probes and the page at / are open.

    Args:
        app: what is behind the door.
        keys: those that open it.
        elsewhere: start of the paths that ask for keys of their own.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeySet, elsewhere: str = "") -> None:
        self.app, self.keys, self.elsewhere = app, keys, elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open or has a key."""
        path = str(scope.get("path", ""))
        elsewhere = bool(self.elsewhere) and path.startswith(self.elsewhere)
        is_open = path in OPEN_PATHS and scope.get("method") in ("GET", "HEAD")  # POST / asks the model
        if scope["type"] != "http" or is_open or elsewhere:
            await self.app(scope, receive, send)
        else:
            await with_key(self.keys, self.app, scope, receive, send)


async def with_key(keys: ApiKeySet, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass on a request with one of the keys, answer any other with 401."""
    authorization = dict(scope["headers"]).get(b"authorization", b"")
    if keys.accept(authorization):
        await app(scope, receive, send)
        return
    message = "this API key is not accepted" if authorization else NO_KEY
    await error_response(scope, "Unauthorized", message, 401, CHALLENGE)(scope, receive, send)


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Options of CORSMiddleware: pages of these origins may ask, with a key but without cookies."""
    return {
        "allow_origins": list(origins), "allow_methods": ["GET", "POST"],
        "allow_headers": ["authorization", "content-type", "x-request-id"],
        "expose_headers": [
            "x-request-id", "x-model", "x-model-digest", "x-truncated", "x-compute-tokens", "server-timing",
            "retry-after",
        ],
    }  # fmt: skip


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _non_empty(keys: Iterable[str], source: str) -> list[str]:
    found = [key.strip() for key in keys if key.strip()]
    if not found:
        raise ToolkitError(f"{source} holds no key", expected="at least one; leave it out to serve without keys")
    return found
