"""SIGTERM: readiness goes off, accepted requests are answered, the process ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

from tests.support.server import WAIT, ask, serving, until


def test_sigterm_answers_what_was_accepted_first(slow_bundle: Path) -> None:
    answers: list[tuple[int, str]] = []
    options = ("--workers", "1", "--max-batch-requests", "1", "--log-format", "none")
    with serving("-m", "serve", str(slow_bundle), "--port", "0", *options) as (process, address):
        clients = [
            threading.Thread(target=lambda: answers.append(ask(address, "/predict", {"inputs": "a"}))) for _ in range(3)
        ]
        for client in clients:
            client.start()
        until(address, r'^te_request_count{method="single"} 3\.0$')
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(WAIT)
        _, err = process.communicate(timeout=WAIT)
        assert (process.returncode, err) == (0, "")
    assert answers == [(200, '[{"score":10.0,"label":"score"}]')] * 3  # ids 2 + 5 + 3


def test_sigterm_turns_readiness_off_first_and_goes_on_answering(tiny_onnx: Path) -> None:
    options = ("--workers", "1", "--log-format", "none", "--shutdown-delay-s", "2")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        assert ask(address, "/health/ready")[0] == 200
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + WAIT
        while (status := ask(address, "/health/ready")[0]) == 200:
            assert time.monotonic() < end
        assert status == 503
        assert ask(address, "/v2/health/ready")[0] == 503
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200  # by a new connection
        assert ask(address, "/health/live")[0] == 200
        _, err = process.communicate(timeout=WAIT)
        assert (process.returncode, err) == (0, "")


def test_sigterm_waits_for_a_stalled_client_only_so_long(tiny_onnx: Path) -> None:
    options = ("--workers", "1", "--log-format", "json", "--drain-s", "1")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        stalled = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        stalled.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)  # far less than the default 30 s and what else may wait
        answer = stalled.makefile("rb").read()
        stalled.close()
        assert process.returncode == 0
        assert "Traceback" not in err
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b'{"error":"shutting down","error_type":"Unhealthy"}')
