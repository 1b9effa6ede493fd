"""Connections of clients that leave or never end their headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from serve import __main__ as server_module
from serve.http import connection as connection_module
from serve.http.connection import HEAD_BYTES, HEADERS_TOO_LARGE, MOST_UNANSWERED, NOT_HTTP
from tests.support.server import WAIT, ask, in_thread, serving, until


def test_headers_without_an_end_are_cut_off_and_the_server_goes_on(tiny_onnx: Path) -> None:
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", "--workers", "1") as (_, address):
        connection = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        connection.settimeout(WAIT)
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(HEAD_BYTES // 1000 + 2):
                connection.sendall(b"a" * 1000)
        with connection, connection.makefile("rb") as reader:
            answer = reader.read()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200


def test_a_client_that_hangs_up_is_dropped(slow_bundle: Path) -> None:
    with serving("-m", "serve", str(slow_bundle), "--port", "0", "--workers", "1") as (_, address):
        body = b'{"inputs": "a"}'
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connections = []
        for count in (1, 2):
            connection = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
            connection.sendall(head % len(body) + body)
            connections.append(connection)
            until(address, rf'^te_request_count{{method="single"}} {count}\.0$')
        for connection in connections:
            connection.close()
        until(address, r'^te_request_failure{err="dropped"} 2\.0$')
        until(address, r"^te_queue_size 0\.0$")
        assert ask(address, "/predict", {"inputs": "a"})[0] == 200


def test_a_client_that_hangs_up_on_requests_it_sent_at_once_is_dropped(slow_bundle: Path) -> None:
    """Uvicorn tells the request that came last, and not the one that is running."""
    options = ("--port", "0", "--workers", "1", "--log-format", "json")
    with serving("-m", "serve", str(slow_bundle), *options) as (process, address):
        body = b'{"inputs": "a"}'
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        connection.sendall(3 * (head % len(body) + body))
        answer = b""
        while not answer.endswith(b'"label":"score"}]'):
            answer += connection.recv(4096)
        until(address, r'^te_request_count{method="single"} 2\.0$')
        connection.close()
        until(address, r'^te_request_failure{err="dropped"} 1\.0$')
        assert 'te_request_success{method="single"} 1.0' in ask(address, "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)
    assert "error" not in err
    assert process.returncode == 0


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes of the body, after a second for /slow."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(size)))]})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection_module, "BODY_SECONDS", 0.5)
    with in_thread(echo, timeout_keep_alive=1) as address:
        yield address


def answer_to(address: tuple[str, int], *parts: bytes, pause: float = 0.1) -> bytes:
    """All bytes that come back on a connection until the server closes it."""
    with socket.create_connection(address, timeout=WAIT) as connection:
        for part in parts:
            with contextlib.suppress(ConnectionError):
                connection.sendall(part)
            time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                answer += data
        return answer


GET = b"GET / HTTP/1.1\r\n"
HOST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        (HOST,),
        (b"P",),
        (b"\r\n",) * 8,
        (HOST, *(b"x-%d: y\r\n" % i for i in range(8))),
        (HOST + b"content-length: 10\r\n\r\n", *([b"a"] * 8)),
        (HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nab",),
    ],
)
def test_a_request_that_does_not_end_is_closed_in_time(address: tuple[str, int], parts: tuple[bytes, ...]) -> None:
    started = time.monotonic()
    answer = answer_to(address, *parts)
    assert time.monotonic() - started < 10
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert answer.endswith(b'{"error":"the request did not end in time","error_type":"Validation"}')


def test_a_connection_without_a_request_is_closed_in_time(address: tuple[str, int]) -> None:
    assert answer_to(address) == b""


def test_a_request_waits_for_those_before_it_however_long_they_take(address: tuple[str, int]) -> None:
    first = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = answer_to(address, first + HOST + b"content-length: 3\r\n\r\nab", b"", b"", b"", b"", b"", b"", b"c")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (GET + b"\r\n", b"400 Bad Request", "the request has no Host headers: expected one"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"400 Bad Request",
            "the request has 2 Host headers: expected one",
        ),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request", NOT_HTTP),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request", NOT_HTTP),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"400 Bad Request", "CONNECT: this server is no proxy"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
            HEADERS_TOO_LARGE,
        ),
    ],
)
def test_what_is_refused_before_the_application_is_json_too(
    address: tuple[str, int], request_bytes: bytes, status: bytes, message: str
) -> None:
    head, _, body = answer_to(address, request_bytes, pause=0).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"content-type: application/json" in head
    assert json.loads(body) == {"error": message, "error_type": "Validation"}


@pytest.mark.parametrize("pieces", [1, 7])
def test_an_offer_to_upgrade_is_passed_over(address: tuple[str, int], pieces: int) -> None:
    """As Java's HttpClient makes it by default; httptools leaves out the body of such a request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    requests = (
        HOST + offer + b"Content-Length: 5\r\n\r\nabcde",
        HOST + offer + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        GET + b"Host: x\r\n" + offer + b"\r\n",
        HOST + b"Connection: close\r\nContent-Length: 2\r\n\r\nab",
    )
    data = b"".join(requests)
    size = -(-len(data) // pieces)
    answer = answer_to(address, *(data[start : start + size] for start in range(0, len(data), size)), pause=0.02)
    assert [part.split(b"\r\n")[0] for part in answer.split(b"\r\n\r\n")[1:]] == [
        b"5HTTP/1.1 200 OK", b"3HTTP/1.1 200 OK", b"0HTTP/1.1 200 OK", b"2",
    ]  # fmt: skip


def test_of_thousands_of_requests_at_once_the_first_are_answered(address: tuple[str, int]) -> None:
    started = time.monotonic()
    answer = answer_to(address, 10_000 * b"GET / HTTP/1.1\r\nHost:\r\n\r\n", pause=0)
    assert time.monotonic() - started < 1  # seconds of the event loop before, all of them unanswered
    assert answer.count(b"HTTP/1.1 200 OK") == MOST_UNANSWERED
    assert b"connection: close" in answer.rpartition(b"HTTP/1.1")[2]


def test_headers_up_to_the_limit_are_read(address: tuple[str, int]) -> None:
    size = HEAD_BYTES - 200
    assert b"200 OK" in answer_to(address, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size + b"\r\n\r\n")


def test_a_client_that_takes_nothing_of_its_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would hold a file and its answer for good."""
    monkeypatch.setattr(server_module, "SEND_SECONDS", 0.3)
    dropped = threading.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):  # what is sent second waits until the first is taken, or the connection is lost
            await send({"type": "http.response.body", "body": bytes(8_000_000), "more_body": True})
        dropped.set()

    with in_thread(large) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert dropped.wait(WAIT)


def test_near_the_limit_of_open_files_the_oldest_idle_connections_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_module, "connection_limit", lambda: 4)
    monkeypatch.setattr(connection_module, "_warned", -1e9)
    monkeypatch.setattr(logging.getLogger("serve"), "propagate", True)
    with in_thread(echo, timeout_keep_alive=30) as address, contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.create_connection(address, timeout=WAIT))
        busy.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        idle = []
        for _ in range(6):
            idle.append(stack.enter_context(socket.create_connection(address, timeout=WAIT)))
            time.sleep(0.05)
        assert busy.recv(100).startswith(b"HTTP/1.1 200 OK")
        for connection in idle[:3]:
            assert connection.recv(1) == b""
        idle[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle[-1].recv(100).startswith(b"HTTP/1.1 200 OK")
    assert len([record for record in caplog.records if "limit of open files" in record.message]) == 1
