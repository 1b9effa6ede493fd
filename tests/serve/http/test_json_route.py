"""Bodies that are JSON, and bodies that are none."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from serve.app import create_app
from serve.engine.limits import Limits
from serve.exceptions import ServeError
from serve.http import json_route
from serve.http.json_route import LARGE, MAX_VALUES, PAUSE, Turns, _values, _values_outside_strings, parse_json
from tests.support.responses import error_of

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b'{"inputs": "a"', JSON, 422, "not JSON: .* at character 14"),
        (b"\xff\xfe{", JSON, 422, "not JSON in UTF-8"),
        (b'{"inputs": "\xe9"}', JSON, 422, "not JSON in UTF-8"),
        (b'{"inputs": "\\ud800"}', JSON, 422, "half of a surrogate pair"),
        (b'{"inputs": {"text": "a", "\\ud800": 1}}', JSON, 422, r"unknown field '\\ud800'"),
        (b"[" * 4900, JSON, 422, "not JSON"),
        (b'{"inputs": ' + b"1" * 4800 + b"}", JSON, 422, "not JSON"),
        (b'{"inputs": ' + b"[" * 2000 + b'"a"' + b"]" * 2000 + b"}", JSON, 422, "holds a list|not JSON"),
        (b'{"inputs": "a", "x": ' + b'{"a":' * 800 + b"1" + b"}" * 800 + b"}", JSON, 200, ""),
        (b'{"inputs": "a", "top_k": 1e999}', JSON, 422, "top_k"),
        (b'{"inputs": "a", "top_k": NaN}', JSON, 422, "top_k"),
        (b'{"inputs": "a", "timeout_ms": ' + b"9" * 400 + b"}", JSON, 422, "timeout_ms"),
        (b'{"inputs": -Infinity}', JSON, 422, "holds a number"),
        (b'{"inputs": "a"}\0', JSON, 422, "not JSON"),
        (b"\0" * 100, JSON, 422, "not JSON"),
        (b'\xef\xbb\xbf{"inputs": "a"}', JSON, 200, ""),  # a byte order mark, as some editors write it
        (b"", JSON, 422, "Field required"),
        (b'{"inputs": "a"}', {}, 415, "Content-Type is missing: expected application/json"),
        (b'{"inputs": "a"}', {"content-type": "text/plain; charset=utf-8"}, 415, "is text/plain"),
        (b"inputs=a", {"content-type": "application/x-www-form-urlencoded"}, 415, "urlencoded"),
        (b'{"inputs": "a"}', {"content-type": "text/x+json"}, 415, r"is text/x\+json"),
        (b"null", JSON, 422, "body"),
        (b'{"inputs": "' + b"a" * 5000 + b'"}', JSON, 413, "larger than 5000 bytes"),
    ],
)
def test_bodies_that_are_no_request(
    content: bytes, headers: dict[str, str], status: int, message: str, client: TestClient
) -> None:
    response = client.post("/predict", content=content, headers=headers)
    assert response.status_code == status
    if status != 200:
        assert error_of(response)[1] == "Validation"
        assert re.search(message, error_of(response)[2]), error_of(response)[2]


def test_a_json_suffix_and_a_charset_are_json_too(client: TestClient) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json"):
        assert client.post("/predict", content=b'{"inputs": "a"}', headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"[" + b"1," * MAX_VALUES + b"1]", MAX_VALUES + 1),
        (b"[" + b"[]," * (MAX_VALUES // 2 + 2) + b"1]", MAX_VALUES + 1),
        (b"{" + b'"":1,' * (MAX_VALUES // 2 + 2) + b'"a":1}', MAX_VALUES + 1),
        (b"[" + b'"",' * (3 * MAX_VALUES) + b"1]", MAX_VALUES + 1),
        (b'["' + b"a, b: [c] {d} " * MAX_VALUES + b'", 1]', 2),
        (b'["' + rb"\", \\" * MAX_VALUES + b'", 1]', 2),
        (b"[" + b"1," * (MAX_VALUES - 2) + b"1]", 0),
    ],
)  # fmt: skip
def test_values_are_counted_outside_of_strings(content: bytes, values: int) -> None:
    json.loads(content)
    count = _values(content)
    assert (count > MAX_VALUES) == (values > MAX_VALUES)
    if values <= MAX_VALUES:
        assert count == values


def naive_count(content: bytes) -> int:
    """Separators outside strings, byte by byte."""
    count, inside, at = 0, False, 0
    while at < len(content):
        byte = content[at : at + 1]
        if byte == b'"':
            inside = not inside
        elif inside and byte == b"\\":
            at += 1
        count += not inside and byte in b",:[{"
        at += 1
    return count


TEXT = st.text(alphabet='ab,:[{"\\\n', max_size=9)
VALUES = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@given(value=VALUES, slice_bytes=st.integers(1, 9))
def test_a_count_by_slices_is_that_of_the_whole(value: object, slice_bytes: int) -> None:
    content = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_route, "SLICE", slice_bytes)
        assert _values_outside_strings(content) == naive_count(content)


def test_a_body_of_too_many_values_is_refused_unread(client: TestClient) -> None:
    assert error_of(TestClient(client.app).post("/predict", content=b"[1," * 10, headers=JSON))[0] == 422
    with pytest.raises(ServeError, match=f"more than {MAX_VALUES} values") as refused:
        parse_json(b"[" + b"1," * MAX_VALUES + b"1]")
    assert refused.value.status == 422
    assert parse_json(b'{"a": "' + b"," * (2 * MAX_VALUES) + b'"}') == {"a": "," * (2 * MAX_VALUES)}


def test_a_large_body_holds_no_number_that_takes_long_to_read() -> None:
    """2 MB of such numbers would hold the interpreter for 40 ms."""
    limit, numbers = sys.get_int_max_str_digits(), b",".join([b"9" * 4000] * 20)
    with pytest.raises(ServeError, match="a number of hundreds of digits"):
        parse_json(b"[" + numbers + b"]")
    assert parse_json(b"[" + b",".join([b"9" * 600] * 200) + b"]")[0] == int("9" * 600)
    assert parse_json(b"[" + b"9" * 4000 + b"]") == [int("9" * 4000)]  # one number takes no time
    assert (sys.get_int_max_str_digits(), gc.isenabled()) == (limit, True)


def test_large_bodies_take_turns_with_a_pause_after_each_also_where_one_is_refused() -> None:
    began, ended, answered = list[float](), list[float](), list[float]()

    async def large(turns: Turns) -> None:
        try:
            async with turns.turn():
                began.append(time.perf_counter())
                time.sleep(0.01)  # as a parser holds the loop
                ended.append(time.perf_counter())
                raise ServeError("Validation", "not JSON")
        finally:
            answered.append(time.perf_counter())

    async def main() -> list[BaseException | None]:
        turns = Turns()
        return await asyncio.gather(*(large(turns) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [ServeError] * 3
    pauses = [start - end for start, end in zip(began[1:], ended, strict=False)]
    assert min(pauses) >= 0.9 * PAUSE * 0.01
    assert all(answer < start for answer, start in zip(answered, began[1:], strict=False))  # nobody pauses for itself


def test_only_large_bodies_wait_for_a_turn(tiny_onnx: Path) -> None:
    app, turns = create_app(tiny_onnx, limits=Limits(workers=1)), list[int]()

    class Counted(Turns):
        @asynccontextmanager
        async def turn(self) -> AsyncIterator[None]:
            turns.append(1)
            async with super().turn():
                yield

    with TestClient(app) as client:
        app.state.turns = Counted()
        small = client.post("/predict", json={"inputs": "good"})
        assert turns == []
        large = client.post("/predict", json={"inputs": "good", "x": "a" * LARGE})
        assert turns == [1]
    assert large.json() == small.json()
