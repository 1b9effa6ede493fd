"""Cross-origin requests: the pages that may call the service, and refusals in the shape of all errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from serve.exceptions import ErrorResponse


class CorsOptions(TypedDict):
    """Options of Starlette's CORSMiddleware."""

    allow_origins: list[str]
    allow_methods: list[str]
    allow_headers: list[str]
    expose_headers: list[str]


class JsonCorsMiddleware(CORSMiddleware):
    """Starlette's middleware, which would refuse in plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser's question before its request."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        error = ErrorResponse(error=bytes(response.body).decode(), error_type="Validation")
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return JSONResponse(error.model_dump(), response.status_code, headers)


def cors(origins: Sequence[str]) -> CorsOptions:
    """Return options by which pages of these origins may call the service, with a key but without cookies."""
    return {
        "allow_origins": list(origins), "allow_methods": ["GET", "POST"],
        "allow_headers": ["authorization", "content-type", "x-request-id"],
        "expose_headers": [
            "x-request-id", "x-model", "x-model-digest", "x-unsure", "x-fallback", "x-truncated", "x-compute-tokens",
            "server-timing", "retry-after",
        ],
    }  # fmt: skip
