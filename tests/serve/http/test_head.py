"""HEAD is GET without the body."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/health/ready", "/info", "/docs", "/v2"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.status_code == 200
    same = {"content-length", "content-type", "content-security-policy", "x-content-type-options"}
    assert {name: head.headers.get(name) for name in same} == {name: get.headers.get(name) for name in same}


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "GET"])
def test_other_methods_are_405(client: TestClient, method: str) -> None:
    assert client.request(method, "/predict").status_code == 405
