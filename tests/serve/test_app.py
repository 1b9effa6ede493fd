"""The application's factory: options from the environment, origins, docs without network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount, Route

from serve.__main__ import listen
from serve.app import create_app
from serve.http.json_route import JsonRoute
from tests.support.paths import ROOT
from tests.support.responses import error_of
from tests.support.server import WAIT, ask
from toolkit.errors import ToolkitError


def test_before_the_model_is_loaded_only_liveness_answers(tiny_onnx: Path) -> None:
    client = TestClient(create_app(tiny_onnx))  # not entered: the lifespan has not begun
    assert error_of(client.post("/predict", json={"inputs": "a"}))[:2] == (503, "Unhealthy")
    for path in ("/health", "/health/ready", "/info"):
        assert error_of(client.get(path))[:2] == (503, "Unhealthy")
    assert client.get("/health/live").status_code == 200


def test_endpoints_stand_in_the_application_itself_and_before_its_pages(tiny_onnx: Path) -> None:
    routes = create_app(tiny_onnx).router.routes
    kinds = [isinstance(route, JsonRoute) for route in routes]
    assert kinds == sorted(kinds, reverse=True)
    assert sum(kinds) > 10
    assert all(isinstance(route, (JsonRoute, Route, Mount)) for route in routes)  # no router that wraps others


def test_docs_need_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 2
    assert [link for link in links if "//" in link] == []
    assert all(client.get(link).status_code == 200 for link in links)
    assert re.findall(r"https?://", page) == []


def test_the_factory_reads_the_environment(
    arithmetic: dict[str, Path], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_BUNDLE", f"{arithmetic['sum']}:films={tiny_onnx}")
    monkeypatch.setenv("TOOLKIT_MAX_CLIENT_BATCH_SIZE", "2")
    monkeypatch.setenv("TOOLKIT_CORS_ORIGINS", "https://friend.test")
    monkeypatch.setenv("TOOLKIT_PORT", "tcp://10.0.0.1:80")  # what Kubernetes says beside a service named toolkit
    with TestClient(create_app()) as client:
        shown = client.get("/info", headers={"origin": "https://friend.test"})
        assert [card["name"] for card in shown.json()["models"]] == ["sum", "films"]
        assert shown.json()["max_client_batch_size"] == 2
        assert shown.headers["access-control-allow-origin"] == "https://friend.test"
    monkeypatch.setenv("TOOLKIT_MAX_CLIENT_BATCH_SIZE", "two")
    with pytest.raises(ToolkitError, match="TOOLKIT_MAX_CLIENT_BATCH_SIZE=two"):
        create_app()


def test_the_factory_takes_keys_from_the_environment(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEYS", "of-env-1")
    with TestClient(create_app(tiny_onnx)) as client:
        assert client.get("/info").status_code == 401
        assert client.get("/info", headers={"authorization": "Bearer of-env-1"}).status_code == 200


def test_uvicorn_runs_the_factory(tiny_onnx: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "serve.app:create_app", "--factory", "--port", port],
        cwd=ROOT, env=os.environ | {"TOOLKIT_BUNDLE": str(tiny_onnx)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        assert ask(f"http://127.0.0.1:{port}", "/predict", {"inputs": "a"})[0] == 200
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


def test_nobody_is_sent_to_the_host_that_a_request_names(client: TestClient) -> None:
    for path in ("/predict/", "/health/", "/info/"):
        response = client.get(path, headers={"host": "evil.test"}, follow_redirects=False)
        assert error_of(response)[0] == 404
        assert "evil" not in response.text
