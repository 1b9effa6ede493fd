"""No body within the limit holds the event loop or takes much memory, whatever it is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from benchmarks.serving.worst_bodies import bodies
from serve.app import create_app
from serve.engine.limits import MAX_INPUTS, Limits
from serve.http.api_keys import ApiKeySet
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError

SIZE = 400_000  # a fifth of the default limit; so are the bounds
MAX_SECONDS, MAX_BYTES = 0.1, 40e6  # of half a second and 200 MB, which a text of a single word takes on a thread


@pytest.fixture(scope="module")
def app(arithmetic: dict[str, Path]) -> FastAPI:
    limits, root = Limits(workers=1, timeout_ms=600_000), str(arithmetic["sum"].parent)
    return create_app(
        {"m": arithmetic["sum"]}, config=ServeConfig((), models_root=root), limits=limits,
        admin_keys=ApiKeySet(["admin-key"]),
    )  # fmt: skip


def resident(field: str) -> int:
    """Bytes of the process: VmRSS now, VmHWM the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def post(app: FastAPI, path: str, body: bytes) -> tuple[int, float]:
    """Status, and CPU seconds of the event loop's thread."""
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer admin-key")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("test", 80),
        "client": ("test", 1),
    }  # fmt: skip
    started = time.thread_time()
    await app(scope, receive, send)
    return statuses[0], time.thread_time() - started


@pytest.mark.parametrize(
    "path",
    ["/predict", "/models/m/predict", "/", "/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/admin/models/m"],
)  # fmt: skip
def test_every_body_is_answered_in_little_time_and_memory(app: FastAPI, path: str) -> None:
    async def main() -> list[str]:
        slow = []
        async with app.router.lifespan_context(app):
            for name, body in bodies(path, SIZE):
                before = resident("VmRSS")
                forget_peak()
                status, seconds = await post(app, path, body)
                for _ in range(3):  # other programs on this machine lengthen even CPU time
                    if seconds > MAX_SECONDS:
                        seconds = min(seconds, (await post(app, path, body))[1])
                grown = resident("VmHWM") - before
                assert status in (200, 400, 413, 422), name
                if seconds > MAX_SECONDS or grown > MAX_BYTES:
                    slow.append(f"{name}: {seconds:.3f} s, {grown / 1e6:.0f} MB, {status}")
        return slow

    assert asyncio.run(main()) == []


def test_more_inputs_than_can_be_checked_are_no_limit() -> None:
    with pytest.raises(ToolkitError, match=f"max_client_batch_size {MAX_INPUTS + 1}: expected at most {MAX_INPUTS}"):
        Limits(max_client_batch_size=MAX_INPUTS + 1, max_concurrent_requests=10**6).check(128)
