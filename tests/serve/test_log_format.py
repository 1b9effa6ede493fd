"""Formats of the log."""

from __future__ import annotations

import json
import logging
import os
import re
import select
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve import log_format
from serve.log_format import JsonFormatter, StderrHandler, TextFormatter, configure, requests, server_log
from tests.support.responses import log_lines


def test_a_record_is_one_line_of_json_whatever_it_holds() -> None:
    record = logging.LogRecord("serve", logging.ERROR, "x.py", 1, "a\nb \u00e9 %s", ("\u2028",), None)
    record.fields = {"request_id": "r-1"}
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["message"], entry["level"], entry["request_id"]) == ("a\nb \u00e9 \u2028", "error", "r-1")
    assert "traceback" not in entry


@pytest.mark.parametrize(("chosen", "requests_too"), [("text", True), ("json", True), ("none", False)])
def test_none_leaves_out_requests_but_not_faults(
    chosen: str, requests_too: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("serve", "serve.requests", "uvicorn")
    before = [(log, log.handlers, log.propagate, log.level) for log in map(logging.getLogger, names)]
    try:
        configure(chosen)
        fields = {"method": "GET", "path": "/x", "status": 200, "total_ms": 1.0}
        requests.info("request", extra={"fields": fields})
        server_log.warning("broken")
    finally:
        for log, handlers, propagate, level in before:
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)
    shown = capfd.readouterr().err
    assert "broken" in shown
    assert ("/x" in shown) == requests_too


def test_people_get_a_line_they_can_read(client: TestClient) -> None:
    with log_lines(TextFormatter()) as lines:
        client.post("/predict", json={"inputs": "good"}, headers={"x-request-id": "r-1"})
        client.get("/nowhere%0Ainjected")
    assert re.fullmatch(
        r"[\d:]{8} POST /predict 200 \d+\.\d ms request_id=r-1 model=onnx inputs=1 tokens=3 .*", lines[0]
    )
    assert len(lines) == 2
    assert "/nowhere%0Ainjected 404" in lines[1]


def test_a_reader_that_stops_costs_lines_and_not_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(log_format, "STDERR", writer)
    handler = StderrHandler()
    try:
        for number in range(2000):  # far more than a pipe holds
            handler.emit(logging.LogRecord("serve", logging.INFO, "x.py", 1, f"line {number} " + "x" * 100, (), None))
        assert handler.dropped > 1000
        dropped, held = handler.dropped, b""
        while select.select((reader,), (), (), 0)[0]:
            held += os.read(reader, 65536)
        assert held.count(b"\n") == 2000 - dropped
        handler.emit(logging.LogRecord("serve", logging.INFO, "x.py", 1, "last", (), None))
        assert os.read(reader, 65536) == f"{dropped} lines of the log found no reader\nlast\n".encode()
    finally:
        os.close(reader)
        os.close(writer)


def test_a_closed_or_full_stderr_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(log_format, "STDERR", full.fileno())
        handler = StderrHandler()
        handler.emit(logging.LogRecord("serve", logging.INFO, "x.py", 1, "line", (), None))
        assert handler.dropped == 1
    handler.emit(logging.LogRecord("serve", logging.INFO, "x.py", 1, "line", (), None))
    assert handler.dropped == 2
