"""API keys: who may use the service."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.exceptions import NO_KEY
from serve.http.error_handlers import error_response
from toolkit.errors import ToolkitError

KEYS_VARIABLE, ADMIN_KEYS_VARIABLE = "TOOLKIT_API_KEYS", "TOOLKIT_ADMIN_KEYS"
OPEN_PATHS = {"/", "/health", "/health/live", "/health/ready"}  # probes hold no keys; the page at / asks for one
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class ApiKeySet:
    """The keys that a server accepts, held as SHA-256 only, so that no log or message can show one.

    Args:
        keys: the keys themselves.
        source: the file or variable that they come from, for messages.

    Raises:
        ToolkitError: a key that no header could carry; the message does not show it.
    """

    def __init__(self, keys: Iterable[str] = (), source: str = "keys") -> None:
        keys = list(keys)
        for number, key in enumerate(keys, 1):
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ToolkitError(f"{source}: key {number} has a space or a character that is not ASCII")
        self._digests = tuple(_digest(key.encode()) for key in keys)

    @classmethod
    def load(cls, file: str | None, variable: str = KEYS_VARIABLE, option: str = "--api-keys-file") -> ApiKeySet:
        """Read keys from an environment variable, separated by commas, and from a file, one a line.

        Without both there are no keys.

        Raises:
            ToolkitError: the file cannot be read, or a source is named and holds no key, which would leave open a
                service that was meant to be closed.
        """
        keys: list[str] = []
        if variable in os.environ:
            keys += _non_empty(os.environ[variable].split(","), variable)
        if file is not None:
            try:
                lines = Path(file).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                problem = getattr(error, "strerror", None) or "not UTF-8"
                raise ToolkitError(f"{option} {file}: {problem}", expected="a file of one key a line") from None
            keys += _non_empty(lines, f"{option} {file}")
        return cls(keys, file or variable)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def shares(self, other: ApiKeySet) -> bool:
        """Return whether a key is in both sets."""
        return not set(self._digests).isdisjoint(other._digests)

    def accept(self, authorization: bytes) -> bool:
        """Return whether an Authorization header holds a key of the set.

        Every key is compared, so that the time does not depend on which of them matches.
        """
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, accepted) for accepted in self._digests]
        return any(matches) and scheme.lower() == b"bearer"


class ApiKeyMiddleware:
    """ASGI middleware: answers 401 to a request without a key, before its body is read; probes and the page are open.

    Args:
        app: the application behind the check.
        keys: the keys that open it.
        elsewhere: prefix of the paths that check keys of their own; empty for none.
        open_metrics: /metrics is open too.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeySet, elsewhere: str = "", *, open_metrics: bool = False) -> None:
        self.app, self.keys, self.elsewhere = app, keys, elsewhere
        self.open_paths = OPEN_PATHS | ({"/metrics"} if open_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request for an open path or with a key."""
        path = str(scope.get("path", ""))
        elsewhere = bool(self.elsewhere) and path.startswith(self.elsewhere)
        is_open = path in self.open_paths and scope.get("method") in ("GET", "HEAD")  # POST / classifies
        if scope["type"] != "http" or is_open or elsewhere:
            await self.app(scope, receive, send)
        else:
            await with_key(self.keys, self.app, scope, receive, send)


async def with_key(keys: ApiKeySet, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass on a request that holds one of the keys; answer any other with 401."""
    authorization = dict(scope["headers"]).get(b"authorization", b"")
    if keys.accept(authorization):
        await app(scope, receive, send)
        return
    message = "this API key is not accepted" if authorization else NO_KEY
    await error_response(scope, "Unauthorized", message, 401, CHALLENGE)(scope, receive, send)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _non_empty(keys: Iterable[str], source: str) -> list[str]:
    stripped = [key.strip() for key in keys if key.strip()]
    if not stripped:
        raise ToolkitError(f"{source} holds no key", expected="at least one; leave it out to serve without keys")
    return stripped
