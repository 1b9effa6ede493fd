"""Handlers that give every error one shape, {"error", "error_type"}; under /v2 the protocol's own, {"error"}."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from serve.exceptions import ErrorResponse, ErrorType, ServeError
from serve.http.request_record import record_of
from serve.metrics import FAILURES, Metrics

PROTOCOL = "/v2"
# the paths that te_request_* count
CLASSIFYING = re.compile(rf"/(?:predict)?|/models/[^/]+/predict|{PROTOCOL}/models/[^/]+(?:/versions/[^/]+)?/infer")


def handle_errors(app: FastAPI) -> None:
    """Register the handlers of every exception that tells of the request."""
    app.add_exception_handler(ServeError, _on_serve_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def error_response(
    scope: Scope, error_type: ErrorType, message: str, status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the response of an error, count it where the request is to classify, and record it for the log."""
    return _answer(Request(scope), error_type, message, status, headers)


def _answer(
    http: Request, error_type: ErrorType, message: str, status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    path = http.url.path
    record = record_of(http.scope)
    record.log_fields = {"error_type": error_type}
    if CLASSIFYING.fullmatch(path):
        metrics: Metrics = http.app.state.metrics
        metrics.failures[FAILURES[error_type]].inc()
        if not record.counted:  # it failed before the endpoint could tell its method
            metrics.requests["invalid"].inc()
    if path.startswith(PROTOCOL):
        return JSONResponse({"error": message}, status, headers)
    return JSONResponse(ErrorResponse(error=message, error_type=error_type).model_dump(), status, headers)


def _on_serve_error(http: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServeError)
    return _answer(http, error.error_type, error.message, error.status, error.headers)


def _on_invalid(http: Request, error: Exception) -> JSONResponse:
    """Answer JSON that is no request with its first problem."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "empty":
        return _answer(http, "Empty", first["msg"], 400)
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    message = first["msg"] if first["type"] == "inputs" else f"`{where}`: {first['msg']}"
    return _answer(http, "Validation", message, 422)


def _on_http(http: Request, error: Exception) -> JSONResponse:
    """Answer errors of routing (404, 405) and of a body that is too large (413)."""
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code in (404, 405):
        message = f"{error.detail}: {http.method} {http.url.path}; this server answers POST /predict, see /docs"
    return _answer(http, "Validation", message, error.status_code, error.headers)
