"""Headers that every response carries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.limits import Limits
from serve.http.security_headers import SECURITY_HEADERS

ASK = {"inputs": "private words"}


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    app = create_app(tiny_onnx, limits=Limits(workers=1, payload_limit=2000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None), ("GET", "/info", None), ("GET", "/nowhere", None), ("POST", "/predict", ASK),
        ("POST", "/predict", {}), ("POST", "/predict", {"inputs": "a" * 3000}), ("GET", "/metrics", None),
    ],
)  # fmt: skip
def test_every_response_is_safe_to_show_in_a_browser(client: TestClient, method: str, path: str, body: Any) -> None:
    headers = client.request(method, path, json=body, headers={"origin": "https://elsewhere.test"}).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert [name for name in headers if name.startswith("access-control")] == []
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
