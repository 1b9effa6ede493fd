"""Readers of a server's responses, metrics and log."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient

from serve.exceptions import ErrorResponse


def error_of(response: Any) -> tuple[int, str, str]:
    """Status, type and message; the body must be exactly the one shape."""
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error", "error_type"}
    body = ErrorResponse.model_validate(response.json())
    return response.status_code, body.error_type, body.error


def sample(client: TestClient, name: str, **labels: str) -> float:
    shown = client.get("/metrics").text
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    value = re.search(rf"^{re.escape(name + (f'{{{pairs}}}' if pairs else ''))} (\S+)$", shown, re.MULTILINE)
    return float(value.group(1)) if value else 0.0


@contextmanager
def log_lines(formatter: logging.Formatter) -> Iterator[list[str]]:
    """Collect the lines that the server logs meanwhile."""
    logger, stream, lines = logging.getLogger("serve"), io.StringIO(), list[str]()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    before = (logger.handlers, logger.level, logger.propagate)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        lines.extend(stream.getvalue().splitlines())
