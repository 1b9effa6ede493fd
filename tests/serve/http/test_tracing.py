"""Traces as a collector receives them: real OTLP over HTTP, from a real server process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from serve.http import tracing
from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, serving
from toolkit.errors import ToolkitError

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP endpoint that keeps what it is sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(of: Span) -> dict[str, str | int]:
    values: dict[str, str | int] = {}
    for attribute in of.attributes:
        kind = attribute.value.WhichOneof("value")
        assert kind
        values[attribute.key] = getattr(attribute.value, kind)
    return values


def test_a_collector_gets_each_request_with_its_stages(tiny_onnx: Path) -> None:
    with collector() as (endpoint, received):
        command = ("-m", "serve", f"films={tiny_onnx}", "--port", "0", "--workers", "1", "--log-format", "json")
        asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}  # FastAPI's stay off
        with serving(*command, **asked) as (process, address):
            request = Request(
                address + "/predict?q=private", json.dumps({"inputs": ["private words", "good film"]}).encode(),
                {"content-type": "application/json", "traceparent": PARENT},
            )  # fmt: skip
            with urlopen(request, timeout=WAIT) as response:
                timing = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
            assert ask(address, "/models/films/predict", {"inputs": []})[0] == 400
            assert ask(address, "/health")[0] == 200  # not traced
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=WAIT)  # what is not sent yet is sent before it ends
            assert process.returncode == 0
    assert "Traceback" not in err
    (resource,) = {spans.resource.SerializeToString() for request in received for spans in request.resource_spans}
    assert b"tinybert-toolkit" in resource
    spans = [
        span for request in received for spans in request.resource_spans for scope in spans.scope_spans
        for span in scope.spans
    ]  # fmt: skip
    by_name = {span.name: span for span in spans}
    assert len(spans) == len(by_name) == 5
    whole = by_name["POST /predict"]
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert whole.kind == Span.SPAN_KIND_SERVER
    values = attributes(whole)
    assert values["http.response.status_code"] == 200
    assert (values["toolkit.model"], values["toolkit.inputs"]) == ("films", 1)
    stages = [by_name[name] for name in ("tokenization", "queue", "inference")]
    for stage in stages:
        assert (stage.trace_id, stage.parent_span_id) == (whole.trace_id, whole.span_id)
        taken_ms = (stage.end_time_unix_nano - stage.start_time_unix_nano) / 1e6
        assert taken_ms == pytest.approx(float(timing[stage.name]), abs=0.002)
    for before, after in pairwise(stages):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert whole.start_time_unix_nano <= stages[0].start_time_unix_nano
    assert stages[-1].end_time_unix_nano <= whole.end_time_unix_nano
    refused = by_name["POST /models/{name}/predict"]
    assert attributes(refused)["http.response.status_code"] == 400
    assert refused.trace_id != whole.trace_id
    assert not any(b"private" in request.SerializeToString() for request in received)


def test_a_collector_that_is_away_harms_nobody(tiny_onnx: Path) -> None:
    command = ("-m", "serve", str(tiny_onnx), "--port", "0", "--workers", "1", "--log-format", "none")
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with serving(*command, **away) as (process, address):
        for _ in range(3):
            assert ask(address, "/predict", {"inputs": "good"})[0] == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT)
        assert process.returncode == 0


def test_a_fault_of_the_server_is_an_error_and_ends_its_span(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from serve.app import create_app
    from serve.engine.engine import Engine

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "provider", lambda: provider)
    monkeypatch.setattr(Engine, "predict", lambda *_, **__: 1 / 0)
    with TestClient(create_app(tiny_onnx), raise_server_exceptions=False) as client:
        assert client.post("/predict", json={"inputs": "a"}, headers={"traceparent": "nonsense"}).status_code == 500
        (span,) = exporter.get_finished_spans()
    assert span.status.status_code.value == Status.STATUS_CODE_ERROR
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 500
    assert span.attributes["toolkit.error_type"] == "Backend"


@pytest.mark.parametrize(
    "environment",
    [
        {}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)  # fmt: skip
def test_it_is_off_unless_asked_for(environment: dict[str, str]) -> None:
    assert tracing.provider(environment) is None


def test_an_exporter_of_somebody_else_is_named() -> None:
    with pytest.raises(ToolkitError, match="OTEL_TRACES_EXPORTER=zipkin"):
        tracing.provider({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_without_the_packages_it_says_which_extra_brings_them(tiny_onnx: Path) -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk.trace.export'] = None\n"
        "from serve.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_onnx), "--port", "0"], capture_output=True, text=True, cwd=ROOT,
        env={"OTEL_TRACES_EXPORTER": "otlp", "PATH": ""}, timeout=WAIT * 4,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'tinybert-toolkit[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
