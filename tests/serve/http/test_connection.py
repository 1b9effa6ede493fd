"""Connections of clients that leave or never end their headers."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

from serve.http.connection import HEAD_BYTES
from tests.support.server import WAIT, ask, serving, until


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
        assert answer.startswith(b"HTTP/1.1 400 ")
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
