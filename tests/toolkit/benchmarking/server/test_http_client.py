"""The HTTP client against a real socket that answers in pieces, in order, or not at all."""

from __future__ import annotations

import asyncio
import json

import pytest

from toolkit.benchmarking.server.http_client import Address, Connection, Reply, post


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def replies(parts: list[bytes], count: int) -> list[Reply]:
    """Ask `count` times over one connection to a server that sends `parts`, a moment apart, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = await Connection.open(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        waiting = [connection.reply() for _ in range(count)]
        connection.write(post({"inputs": "a"}))
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert (await connection.ask(post({}))).status == 0  # the server has hung up by now
        connection.close()
        return answers


def test_a_request_is_json_unless_it_is_bytes() -> None:
    head, body = post({"inputs": "é"}, "/x", ["A: b"]).split(b"\r\n\r\n", 1)
    assert json.loads(body) == {"inputs": "é"}
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /x HTTP/1.1"
    assert {"A: b", f"Content-Length: {len(body)}"} <= set(lines)
    assert post(b"raw").endswith(b"\r\n\r\nraw")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_answers_in_pieces_are_read_in_order(size: int) -> None:
    stream = answer(b'{"a":1}') + answer(b"", "429 Too Many Requests") + answer(b"x" * 50)
    parts = [stream[i : i + size] for i in range(0, len(stream), size)]
    answers = asyncio.run(replies(parts, 3))
    assert [(reply.status, reply.body) for reply in answers] == [(200, b'{"a":1}'), (429, b""), (200, b"x" * 50)]
    assert all(reply.seconds > 0 for reply in answers)


def test_an_answer_that_never_comes_has_status_0() -> None:
    answers = asyncio.run(replies([answer(b"first"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], 2))
    assert [reply.status for reply in answers] == [200, 0]


def test_a_metric_is_summed_over_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'te_count{code="200"} 3\nte_count{code="429"} 4\nte_count_total 100\nte_size 2.5\n'
    monkeypatch.setattr(Address, "get", lambda self, path: text)
    address = Address("127.0.0.1", 80)
    assert (address.metric("te_count"), address.metric("te_size"), address.metric("none")) == (7, 2.5, 0)
    assert address.url == "http://127.0.0.1:80"
