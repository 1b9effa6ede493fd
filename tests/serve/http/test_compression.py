"""Compressed bodies: what they hold is what arrives, in small parts, and a bomb is stopped by the limit on bytes."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from serve.app import create_app
from serve.engine.limits import Limits
from serve.exceptions import ServeError
from serve.http.compression import PIECE, Decompressed
from tests.support.responses import error_of

LIMIT = 200_000


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_onnx, limits=Limits(workers=1, payload_limit=LIMIT))) as client:
        yield client


def read(body: bytes, encoding: bytes, size: int) -> tuple[bytes, list[int]]:
    """Decompress a body that arrives in parts of `size` bytes: all of it, and the sizes of the decompressed parts."""
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ] + [{"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def everything() -> tuple[bytes, list[int]]:
        decompressed, pieces, more = Decompressed(receive, encoding), [], True
        while more:
            message = await decompressed()
            pieces.append(message["body"])
            more = message["more_body"]
        assert await decompressed() == {"type": "http.disconnect"}
        return b"".join(pieces), list(map(len, pieces))

    return asyncio.run(everything())


CONTENT = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda byte, count: bytes([byte]) * count, st.integers(0, 255), st.integers(0, 3 * PIECE)),
    st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 2 * PIECE]).map(random.Random(0).randbytes),
)


@given(CONTENT, st.sampled_from([1, 7, 100_000]))
def test_what_was_compressed_arrives_in_small_parts(content: bytes, size: int) -> None:
    size = max(size, len(content) // 200)
    for encoding, body in ((b"gzip", gzip.compress(content)), (b"Deflate ", zlib.compress(content))):
        arrived, sizes = read(body, encoding, size)
        assert arrived == content
        assert max(sizes) <= PIECE


@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_not_compressed_so_is_refused(size: int) -> None:
    body = gzip.compress(b"a warm film")
    for wrong, problem in (
        (b"a warm film", "not gzip"), (b"", "ends early"), (body[:-1], "ends early"), (body[:5], "ends early"),
        (body + b"x", "bytes follow"), (body + body, "bytes follow"), (body[:-8] + bytes(8), "not gzip"),
    ):  # fmt: skip
        with pytest.raises(ServeError, match=problem):
            read(wrong, b"gzip", size)
    with pytest.raises(ServeError, match="Content-Encoding is br: expected gzip or deflate") as caught:
        read(body, b"br", size)
    assert caught.value.status == 415


def test_compressed_requests_are_answered_and_bombs_are_not(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    text = b'{"inputs":"a warm film"}'
    plain = client.post("/predict", content=text, headers={"content-type": "application/json"})
    assert client.post("/predict", content=gzip.compress(text), headers=headers).json() == plain.json()
    whole = b'{"inputs":"' + b"a " * (LIMIT // 2 - 7) + b'"}'
    assert len(whole) <= LIMIT
    assert client.post("/predict", content=gzip.compress(whole), headers=headers).status_code == 200
    for size in (LIMIT + 1, 100 * LIMIT):
        bomb = gzip.compress(b" " * size)
        assert len(bomb) <= LIMIT
        answer = client.post("/predict", content=bomb, headers=headers)
        assert error_of(answer)[0::2] == (413, f"the body is larger than {LIMIT} bytes")
    assert error_of(client.post("/predict", content=text, headers=headers))[0::2] == (422, "the body is not gzip")
    assert error_of(client.post("/predict", content=text, headers=headers | {"content-encoding": "br"}))[0] == 415
    identity = headers | {"content-encoding": "identity"}
    assert client.post("/predict", content=text, headers=identity).json() == plain.json()
