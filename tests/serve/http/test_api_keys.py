"""Who is let in, what every response carries, and what the log tells: no key and no text of a user."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.engine import Engine
from serve.engine.limits import Limits
from serve.exceptions import ErrorResponse
from serve.http.api_keys import SAFE_HEADERS, ApiKeySet
from serve.log_format import JsonFormatter, TextFormatter
from tests.support.responses import log_lines
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError

KEYS = ("first-key", "second-key", "third-key")
ASK = {"inputs": "private words"}


@pytest.fixture(scope="module")
def locked(tiny_onnx: Path) -> Iterator[TestClient]:
    app = create_app(tiny_onnx, limits=Limits(workers=1, payload_limit=2000), keys=ApiKeySet(KEYS))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    app = create_app(tiny_onnx, limits=Limits(workers=1, payload_limit=2000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("header", "status"),
    [(f"Bearer {key}", 200) for key in KEYS]
    + [("bearer second-key", 200), ("Bearer  second-key ", 200)]
    + [
        (header, 401)
        for header in (
            None, "", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-keyy", "Bearer FIRST-KEY", "first-key",
            "Basic first-key", "Bearer first-key,second-key", "Bearer first-key second-key",
        )
    ],
)  # fmt: skip
def test_only_a_whole_key_opens(locked: TestClient, header: str | None, status: int) -> None:
    response = locked.post("/predict", json=ASK, headers={} if header is None else {"authorization": header})
    assert response.status_code == status
    if status == 401:
        body = ErrorResponse.model_validate(response.json())
        assert body.error_type == "Unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"
        assert not any(key in response.text for key in KEYS)


@pytest.mark.parametrize("path", ["/info", "/metrics", "/docs", "/openapi.json", "/nowhere", "/health/", "/predict"])
def test_everything_but_probes_asks_for_a_key(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 401
    for probe in ("/health", "/health/live", "/health/ready"):
        assert locked.get(probe).status_code == 200


def test_nothing_is_read_or_run_without_a_key(locked: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*_: Any, **__: Any) -> None:
        pytest.fail("the engine was asked")

    monkeypatch.setattr(Engine, "predict", ran)

    for content in (b'{"inputs": "a"}', b"x" * 5000):  # with a key, the second is 413
        assert locked.post("/predict", content=content).status_code == 401
    shown = locked.get("/metrics", headers={"authorization": "Bearer first-key"}).text
    assert re.search(r'^te_request_failure\{err="unauthorized"\} [1-9]', shown, re.MULTILINE)


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, compared = ApiKeySet(KEYS), []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (compared.append(len(a)), real(a, b))[1])
    for key, expected in (*((one, True) for one in KEYS), ("none", False), ("", False)):
        compared.clear()
        assert keys.accept(f"Bearer {key}".encode()) is expected
        assert compared == [32, 32, 32]  # digests: not even the length of a key shows


def test_keys_come_from_the_environment_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("of-file-1\n\n  of-file-2  \n")
    monkeypatch.setenv("TOOLKIT_API_KEYS", "of-env-1, of-env-2,")
    keys = ApiKeySet.load(str(file))
    for key in ("of-file-1", "of-file-2", "of-env-1", "of-env-2"):
        assert keys.accept(f"Bearer {key}".encode())
        assert key not in repr(vars(keys))
    assert not keys.accept(b"Bearer ")
    monkeypatch.setenv("TOOLKIT_API_KEYS", "")
    assert not ApiKeySet.load(None)
    monkeypatch.delenv("TOOLKIT_API_KEYS")
    assert not ApiKeySet.load(None)


@pytest.mark.parametrize(
    ("variable", "content", "problem"),
    [
        (" ,", None, "TOOLKIT_API_KEYS holds no key"),
        ("", b"\n \n", "holds no key"),
        ("", b"\xff\xfe", "not UTF-8"),
        ("good-key,sp ace", None, "TOOLKIT_API_KEYS: key 2 has a space"),
        ("gr\u00fc\u00df", None, "key 1 has"),
    ],
)
def test_keys_that_would_leave_the_door_open_are_refused_and_not_shown(
    variable: str, content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEYS", variable)
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ToolkitError, match=problem) as refused:
        ApiKeySet.load(None if content is None else str(tmp_path / "keys"))
    assert not re.search("good-key|ace|gr\u00fc", str(refused.value).replace("a space", ""))


def test_the_factory_takes_keys_from_the_environment(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEYS", "of-env-1")
    with TestClient(create_app(tiny_onnx)) as client:
        assert client.get("/info").status_code == 401
        assert client.get("/info", headers={"authorization": "Bearer of-env-1"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None), ("GET", "/info", None), ("GET", "/nowhere", None), ("POST", "/predict", ASK),
        ("POST", "/predict", {}), ("POST", "/predict", {"inputs": "a" * 3000}), ("GET", "/metrics", None),
    ],
)  # fmt: skip
def test_every_response_is_safe_to_show_in_a_browser(client: TestClient, method: str, path: str, body: Any) -> None:
    headers = client.request(method, path, json=body, headers={"origin": "https://elsewhere.test"}).headers
    assert {name: headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
    assert [name for name in headers if name.startswith("access-control")] == []
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


def test_other_origins_are_let_in_only_by_name(tiny_onnx: Path) -> None:
    app = create_app(tiny_onnx, keys=ApiKeySet(KEYS), config=ServeConfig((), cors_origins="https://friend.test"))
    with TestClient(app) as client:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
        for origin, status in (("https://friend.test", 200), ("https://elsewhere.test", 400)):
            response = client.options("/predict", headers={"origin": origin, **ask})
            assert response.status_code == status
            assert (response.headers.get("access-control-allow-origin") == origin) == (status == 200)
        headers = {"origin": "https://friend.test", "authorization": "Bearer first-key"}
        answer = client.post("/predict", json=ASK, headers=headers).headers
        assert answer["access-control-allow-origin"] == "https://friend.test"
        assert "access-control-allow-credentials" not in answer


@pytest.mark.parametrize("given", ["abc", "0b51c2f4-1c1f-4c0a-9f5e-5c1f4c0a9f5e", "a.b:c_d-1", "x" * 128])
def test_a_sane_request_id_is_taken_over(client: TestClient, given: str) -> None:
    for path in ("/health", "/nowhere"):
        assert client.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "x" * 129, "a{b}", "<b>"])
def test_any_other_is_replaced(client: TestClient, given: str) -> None:
    found = [client.get("/health", headers={"x-request-id": given}).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    assert found[0] != found[1]


def test_a_request_is_one_line_of_json(client: TestClient) -> None:
    with log_lines(JsonFormatter()) as lines:
        response = client.post(
            "/predict?q=private", json={"inputs": [["private words"], ["good " * 50]]}, headers={"x-request-id": "r-1"}
        )
        tokens = int(response.headers["x-compute-tokens"])
        client.post("/predict", json={"inputs": {"private": "words"}})
        client.get("/nowhere%0A%22private")
        for quiet in ("/health", "/health/live", "/metrics"):
            client.get(quiet)
    answered, refused, lost = map(json.loads, lines)
    times = [answered.pop(name) for name in ("total_ms", "tokenization_ms", "queue_ms", "inference_ms")]
    assert all(isinstance(one, float) and 0 <= one <= times[0] for one in times)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}\+00:00", answered.pop("time"))
    assert answered == {
        "level": "info", "logger": "serve.requests", "message": "request", "request_id": "r-1", "method": "POST",
        "path": "/predict", "status": 200, "model": "onnx", "inputs": 2, "tokens": tokens, "truncated": True,
    }  # fmt: skip
    assert (refused["status"], refused["error_type"]) == (422, "Validation")
    assert (lost["status"], lost["path"]) == (404, "/nowhere%0A%22private")
    assert "words" not in "".join(lines)
    assert "private" not in lines[0] + lines[1]


def test_people_get_a_line_they_can_read(client: TestClient) -> None:
    with log_lines(TextFormatter()) as lines:
        client.post("/predict", json={"inputs": "good"}, headers={"x-request-id": "r-1"})
        client.get("/nowhere%0Ainjected")
    assert re.fullmatch(
        r"[\d:]{8} POST /predict 200 \d+\.\d ms request_id=r-1 model=onnx inputs=1 tokens=3 .*", lines[0]
    )
    assert len(lines) == 2
    assert "/nowhere%0Ainjected 404" in lines[1]


def test_a_fault_is_told_to_the_log_with_its_request(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken inside")

    monkeypatch.setattr(Engine, "predict", broken)
    with log_lines(JsonFormatter()) as lines:
        response = client.post("/predict", json=ASK, headers={"x-request-id": "r-2"})
    assert response.status_code == 500
    assert "broken" not in response.text
    assert (response.headers["x-request-id"], response.headers["x-content-type-options"]) == ("r-2", "nosniff")
    fault, request = map(json.loads, lines)
    assert (fault["level"], fault["request_id"]) == ("error", "r-2")
    assert "RuntimeError: broken inside" in fault["traceback"]
    assert (request["status"], request["error_type"]) == (500, "Backend")


def test_no_line_costs_nothing_when_nobody_listens(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http.access_log.quote", lambda _: pytest.fail("a line was made"))
    assert client.post("/predict", json=ASK).status_code == 200
