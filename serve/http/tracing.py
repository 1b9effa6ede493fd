"""OpenTelemetry traces, where the environment asks for them: a span for each request and for each of its stages.

OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) names the collector, which is sent spans over HTTP;
OTEL_TRACES_EXPORTER is `otlp`, `console` or `none`. The SDK reads all other variables itself: OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, headers, batching. No text is in a span. Without these variables OpenTelemetry is not imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.error_handlers import CLASSIFYING
from serve.http.request_record import record_of
from toolkit import __version__
from toolkit.errors import ToolkitError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"


def provider(environment: Mapping[str, str] = os.environ) -> Any:
    """Make the tracer provider that the environment asks for, or None.

    Raises:
        ToolkitError: OpenTelemetry is not installed, or the exporter is not one that this server knows.
    """
    exporter = environment.get(EXPORTER, "otlp" if any(environment.get(name) for name in ENDPOINTS) else "none")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporter not in ("otlp", "console"):
        raise ToolkitError(f"{EXPORTER}={exporter}", expected="otlp, console or none")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ImportError as error:
        raise ToolkitError(
            f"traces need OpenTelemetry, which this Python does not have: {error}",
            fix="pip install 'tinybert-toolkit[otel]', or OTEL_TRACES_EXPORTER=none",
        ) from error
    service = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "tinybert-toolkit"}
    resource = Resource.create({**service, "service.version": __version__})
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans = OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter()
    tracer_provider.add_span_processor(BatchSpanProcessor(spans))
    return tracer_provider


class TracingMiddleware:
    """ASGI middleware: exports the spans of each classification once it is over, under the caller's trace if any."""

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.app, self._kind = app, SpanKind.SERVER
        self._tracer = provider.get_tracer("serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and export its spans."""
        if scope["type"] != "http" or not CLASSIFYING.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        started, status = time.time_ns(), 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self._export(scope, status, started, time.time_ns())

    def _export(self, scope: Scope, status: int, started: int, ended: int) -> None:
        """Make the spans of a request; times are nanoseconds since the epoch."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        record = record_of(scope)
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route = getattr(scope.get("route"), "path", scope["path"])
        attributes = {
            "http.request.method": scope["method"], "http.route": route, "http.response.status_code": status,
            **{f"toolkit.{name}": value for name, value in record.facts().items()},
        }  # fmt: skip
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(
            f"{scope['method']} {route}", parent, self._kind, attributes=attributes, start_time=started
        )
        if status >= 500 or not status:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span, parent)
        stage_start = started
        for name, seconds in record.stage_seconds.items():  # in sequence, as they ran
            stage = self._tracer.start_span(name, inside, start_time=stage_start)
            stage_start += round(seconds * 1e9)
            stage.end(stage_start)
        span.end(ended)
