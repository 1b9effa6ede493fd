"""Pages of other origins are let in by name, and refused in the shape of all errors."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from serve.app import create_app
from serve.http.api_keys import ApiKeySet
from tests.support.responses import error_of
from toolkit.config import ServeConfig

KEYS = ("first-key", "second-key", "third-key")


ASK = {"inputs": "private words"}


def test_other_origins_are_let_in_only_by_name(tiny_onnx: Path) -> None:
    app = create_app(
        tiny_onnx, keys=ApiKeySet(KEYS), config=ServeConfig((), cors_origins="https://friend.test", threshold=1.0)
    )
    with TestClient(app) as client:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
        for origin, status in (("https://friend.test", 200), ("https://elsewhere.test", 400)):
            response = client.options("/predict", headers={"origin": origin, **ask})
            assert response.status_code == status
            assert (response.headers.get("access-control-allow-origin") == origin) == (status == 200)
            if status == 400:
                assert error_of(response)[1:] == ("Validation", "Disallowed CORS origin")
        headers = {"origin": "https://friend.test", "authorization": "Bearer first-key"}
        answer = client.post("/predict", json=ASK, headers=headers).headers
        assert answer["access-control-allow-origin"] == "https://friend.test"
        assert "access-control-allow-credentials" not in answer
        shown = answer["access-control-expose-headers"].split(", ")
        assert {"x-unsure", "x-model", "x-request-id"} <= set(answer) & set(shown)
        assert "x-fallback" in shown
