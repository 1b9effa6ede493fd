"""Bodies are bounded one by one and together, and small ones have room of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from serve.exceptions import ServeError
from serve.http import body_limit
from serve.http.body_limit import HELD_TOGETHER, SMALL, BodyLimit
from tests.support.responses import error_of

JSON = {"content-type": "application/json"}
LIMIT = 2 * SMALL


def test_a_body_of_unannounced_length_is_cut_off(client: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"inputs": "'
        while sent < 100_000:
            sent += 1000
            yield b"a" * 1000
        yield b'"}'

    assert error_of(client.post("/predict", content=chunks(), headers=JSON))[:2] == (413, "Validation")


class Held:
    """An application behind the limit that reads its body and keeps it until it is let go."""

    def __init__(self) -> None:
        self.go, self.read = asyncio.Event(), 0
        self.limit = BodyLimit(self.app, LIMIT)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            continue
        self.read += 1
        await self.go.wait()

    def post(self, *parts: int) -> asyncio.Task[None]:
        """Send a body in parts of these sizes."""
        messages: list[Any] = [
            {"type": "http.request", "body": b"a" * size, "more_body": number < len(parts)}
            for number, size in enumerate(parts, 1)
        ]

        async def receive() -> Any:
            await asyncio.sleep(0)
            return messages.pop(0)

        async def send(_: Any) -> None:
            raise AssertionError("nothing is sent")

        scope: Scope = {"type": "http", "headers": []}
        return asyncio.ensure_future(self.limit(scope, receive, send))


def test_all_bodies_together_are_bounded_and_small_ones_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "LEAST_HELD", 0)

    async def main() -> None:
        held = Held()
        large = [held.post(SMALL, SMALL) for _ in range(HELD_TOGETHER)]
        while held.read < len(large):
            await asyncio.sleep(0)
        with pytest.raises(ServeError, match="too many bodies") as refused:
            await held.post(SMALL, 1)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
        small = [held.post(SMALL // 2, SMALL // 2) for _ in range(2 * HELD_TOGETHER)]
        while held.read < len(large) + len(small):
            await asyncio.sleep(0)
        with pytest.raises(ServeError, match="too many bodies"):
            await held.post(1)
        held.go.set()
        await asyncio.gather(*large, *small)
        await held.post(SMALL, SMALL)
        await held.post(1)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_body_beyond_the_limit_leaves_nothing_behind() -> None:
    async def main() -> None:
        held = Held()
        held.go.set()
        for _ in range(3 * HELD_TOGETHER):
            with pytest.raises(HTTPException):
                await held.post(LIMIT, 1)
            await held.post(LIMIT)

    asyncio.run(asyncio.wait_for(main(), 30))
