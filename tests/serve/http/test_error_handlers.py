"""Errors of HTTP and of the server itself have the one shape."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.engine.engine import Engine
from tests.support.responses import error_of


def test_wrong_paths_and_methods(client: TestClient) -> None:
    assert error_of(client.post("/predictions", json={}))[:2] == (404, "Validation")
    response = client.get("/predict")
    assert error_of(response)[:2] == (405, "Validation")
    assert response.headers["allow"] == "POST"


def test_a_fault_of_the_server_is_json_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Engine, "predict", broken)
    error = error_of(client.post("/predict", json={"inputs": "a"}))
    assert error[:2] == (500, "Backend")
    assert "secret" not in error[2]
