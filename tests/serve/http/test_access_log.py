"""Request ids and log lines: no key and no text of a user is in them."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from fastapi.testclient import TestClient

from serve.engine.engine import Engine
from serve.log_format import JsonFormatter
from tests.support.responses import log_lines
from tests.support.server import WAIT, ask, serving

ASK = {"inputs": "private words"}


@pytest.mark.parametrize("given", ["abc", "0b51c2f4-1c1f-4c0a-9f5e-5c1f4c0a9f5e", "a.b:c_d-1", "x" * 128])
def test_a_sane_request_id_is_taken_over(client: TestClient, given: str) -> None:
    for path in ("/health", "/nowhere"):
        assert client.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "x" * 129, "a{b}", "<b>"])
def test_any_other_is_replaced(client: TestClient, given: str) -> None:
    ids = [client.get("/health", headers={"x-request-id": given}).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", request_id) for request_id in ids)
    assert ids[0] != ids[1]


def test_a_request_is_one_line_of_json(client: TestClient) -> None:
    with log_lines(JsonFormatter()) as lines:
        response = client.post(
            "/predict?q=private", json={"inputs": [["private words"], ["good " * 50]]}, headers={"x-request-id": "r-1"}
        )
        tokens = int(response.headers["x-compute-tokens"])
        client.post("/predict", json={"inputs": {"private": "words"}})
        client.get("/nowhere%0A%22private")
        for quiet in ("/health", "/health/live", "/metrics"):
            client.get(quiet)
    answered, refused, lost = map(json.loads, lines)
    times = [answered.pop(name) for name in ("total_ms", "tokenization_ms", "queue_ms", "inference_ms")]
    assert all(isinstance(milliseconds, float) and 0 <= milliseconds <= times[0] for milliseconds in times)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}\+00:00", answered.pop("time"))
    assert answered == {
        "level": "info", "logger": "serve.requests", "message": "request", "request_id": "r-1", "method": "POST",
        "path": "/predict", "status": 200, "model": "onnx", "inputs": 2, "tokens": tokens, "truncated": True,
    }  # fmt: skip
    assert (refused["status"], refused["error_type"]) == (422, "Validation")
    assert (lost["status"], lost["path"]) == (404, "/nowhere%0A%22private")
    assert "words" not in "".join(lines)
    assert "private" not in lines[0] + lines[1]


def test_a_fault_is_told_to_the_log_with_its_request(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken inside")

    monkeypatch.setattr(Engine, "predict", broken)
    with log_lines(JsonFormatter()) as lines:
        response = client.post("/predict", json=ASK, headers={"x-request-id": "r-2"})
    assert response.status_code == 500
    assert "broken" not in response.text
    assert (response.headers["x-request-id"], response.headers["x-content-type-options"]) == ("r-2", "nosniff")
    fault, request = map(json.loads, lines)
    assert (fault["level"], fault["request_id"]) == ("error", "r-2")
    assert "RuntimeError: broken inside" in fault["traceback"]
    assert (request["status"], request["error_type"]) == (500, "Backend")


def test_no_line_costs_nothing_when_nobody_listens(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http.access_log.quote", lambda _: pytest.fail("a line was made"))
    assert client.post("/predict", json=ASK).status_code == 200


def test_the_log_is_json_and_holds_no_text(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first-key\nsecond-key\n")
    options = ("--log-format", "json", "--api-keys-file", str(tmp_path / "keys"))
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        assert ask(address, "/health") == (200, "")
        assert ask(address, "/predict", {"inputs": "private words"})[0] == 401
        request = Request(
            address + "/predict?q=private", json.dumps({"inputs": ["private words", "good film"]}).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer second-key", "X-Request-Id": "mine-1"},
        )  # fmt: skip
        with urlopen(request, timeout=WAIT) as response:
            assert response.headers["x-request-id"] == "mine-1"
            assert "server" not in response.headers
        half = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        half.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first-key\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        half.close()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=WAIT)[1]
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["status"] for line in lines][:2] == [401, 200]
    assert {line["logger"] for line in lines} == {"serve.requests"}
    assert lines[1]["request_id"] == "mine-1"
    assert (lines[1]["inputs"], lines[1]["path"]) == (1, "/predict")
    assert "private" not in err
    assert "-key" not in err
