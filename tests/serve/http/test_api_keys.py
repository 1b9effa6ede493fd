"""Keys: who is let in, and where keys come from."""

from __future__ import annotations

import hmac
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
from serve.http.api_keys import ApiKeySet
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError

KEYS = ("first-key", "second-key", "third-key")


ASK = {"inputs": "private words"}


@pytest.fixture(scope="module")
def locked(tiny_onnx: Path) -> Iterator[TestClient]:
    app = create_app(tiny_onnx, limits=Limits(workers=1, payload_limit=2000), keys=ApiKeySet(KEYS))
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


def test_metrics_are_open_where_the_option_says_so(tiny_onnx: Path) -> None:
    config = ServeConfig((), metrics_access="open")
    with TestClient(create_app(tiny_onnx, keys=ApiKeySet(KEYS), config=config)) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/info").status_code == 401
        assert client.post("/predict", json=ASK).status_code == 401


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
    for key, expected in (*((accepted, True) for accepted in KEYS), ("none", False), ("", False)):
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
    monkeypatch.delenv("TOOLKIT_API_KEYS")
    assert not ApiKeySet.load(None)


@pytest.mark.parametrize(
    ("variable", "content", "problem"),
    [
        (" ,", None, "TOOLKIT_API_KEYS holds no key"),
        ("", None, "TOOLKIT_API_KEYS holds no key"),  # a variable that is not set, in a shell or in compose
        (None, b"\n \n", "holds no key"),
        (None, b"\xff\xfe", "not UTF-8"),
        ("good-key,sp ace", None, "TOOLKIT_API_KEYS: key 2 has a space"),
        ("gr\u00fc\u00df", None, "key 1 has"),
    ],
)
def test_keys_that_would_leave_the_door_open_are_refused_and_not_shown(
    variable: str | None, content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("TOOLKIT_API_KEYS", variable)
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ToolkitError, match=problem) as refused:
        ApiKeySet.load(None if content is None else str(tmp_path / "keys"))
    assert not re.search("good-key|ace|gr\u00fc", str(refused.value).replace("a space", ""))
