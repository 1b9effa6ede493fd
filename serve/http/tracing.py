"""OpenTelemetry traces, where the environment asks for them: a span a request, and one for each of its stages.

OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) sends them there over HTTP; OTEL_TRACES_EXPORTER is `otlp`,
`console` or `none`. Everything else is the SDK's own: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, headers, batching.
No text is in a span. Without these variables nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.error_handlers import CLASSIFYING
from toolkit import __version__
from toolkit.errors import ToolkitError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"


def provider(environment: Mapping[str, str] = os.environ) -> Any:
    """The tracer provider that the environment asks for, or None.

    Raises:
        ToolkitError: OpenTelemetry is not installed, or an exporter that is not one of ours.
    """
    chosen = environment.get(EXPORTER, "otlp" if any(environment.get(name) for name in ENDPOINTS) else "none")
    if chosen == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if chosen not in ("otlp", "console"):
        raise ToolkitError(f"{EXPORTER}={chosen}", expected="otlp, console or none")
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
    made = TracerProvider(resource=Resource.create({**service, "service.version": __version__}), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if chosen == "otlp" else ConsoleSpanExporter()))
    return made


class TracingMiddleware:
    """ASGI middleware: tells of each classification once it is over, under the caller's trace where it names one."""

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.app, self._kind = app, SpanKind.SERVER
        self._tracer = provider.get_tracer("serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; what was measured on the way becomes the spans."""
        if scope["type"] != "http" or not CLASSIFYING.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        started, status = time.time_ns(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self._tell(scope, status, started, time.time_ns())

    def _tell(self, scope: Scope, status: int, started: int, ended: int) -> None:
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        state = scope.get("state", {})
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        route = getattr(scope.get("route"), "path", scope["path"])
        attributes = {
            "http.request.method": scope["method"], "http.route": route, "http.response.status_code": status,
            **{f"toolkit.{name}": value for name, value in state.get("log", {}).items()},
        }  # fmt: skip
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(
            f"{scope['method']} {route}", parent, self._kind, attributes=attributes, start_time=started
        )
        if status >= 500 or not status:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span, parent)
        begun = started
        for name, seconds in state.get("stages", {}).items():  # one after the other, as they ran
            stage = self._tracer.start_span(name, inside, start_time=begun)
            begun += round(seconds * 1e9)
            stage.end(begun)
        span.end(ended)
