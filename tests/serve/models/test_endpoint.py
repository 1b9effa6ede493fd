"""A fallback behind a URL over real HTTP: whatever it does, every request has an answer in time."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.limits import Limits
from serve.models.breaker import Breaker
from serve.models.cascade import Cascade
from serve.models.endpoint import Endpoint, labels_of
from serve.supervisor import build_app
from tests.serve.models.conftest import TEXTS, says_negative
from tests.support.endpoint import Server
from tests.support.responses import sample
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError

LABELS = ("negative", "positive")
SHORT_MS, LONG_MS = 100, 20_000  # shorter than a fault that hangs, and longer than a busy machine takes
RIGHT = [{"label": "negative", "score": 0.75}, {"label": "positive", "score": 0.25}]
GARBAGE: list[Any] = [
    b"", b"<html>busy</html>", b"[]", b"{}", b"[[]]", b"null", b"[" * 5000, b"\xff" * 20, b" " * 100_000,
    *(json.dumps(answer).encode() for answer in (
        RIGHT, [RIGHT, RIGHT], [RIGHT[:1]], [[*RIGHT, {"label": "neutral", "score": 0.0}]],
        [[RIGHT[0], {"label": "Positive", "score": 0.25}]], [[{"label": "negative", "score": 7}, RIGHT[1]]],
        [[{"label": "negative", "score": float("nan")}, RIGHT[1]]],
        [[{"label": "negative", "score": 10**400}, RIGHT[1]]],
        [[{"label": "negative", "score": -0.75}, {"label": "positive", "score": 1.75}]],
    )),
]  # fmt: skip
FAULTS: list[Any] = [*GARBAGE, 429, 500, 503, 404, 413, "drop", "cut"]


@pytest.fixture(scope="module")
def unsure(scores: np.ndarray) -> str:
    return TEXTS[int(np.argmin(scores))]


@contextmanager
def serving(bundle: Path, threshold: float, url: str, **options: Any) -> Iterator[tuple[TestClient, Cascade]]:
    config = ServeConfig(
        (f"films={bundle}",), threshold=threshold, fallback=url, **({"fallback_timeout_ms": LONG_MS} | options)
    )
    app: FastAPI = create_app(config=config, limits=Limits(workers=1))
    with TestClient(app) as client:
        yield client, app.state.models.get().cascade


def outcome(client: TestClient, text: str) -> str:
    """Ask once; the answer is the second model's or, marked, the first one's."""
    started = time.perf_counter()
    response = client.post("/predict", json={"inputs": text, "details": True})
    assert time.perf_counter() - started < LONG_MS / 1000
    assert response.status_code == 200
    what, headers = response.headers["x-fallback"], response.headers
    answered = what == "answered"
    assert (headers["x-model"], headers["x-unsure"]) == (("big", "0") if answered else ("films", "1"))
    assert ("x-model-digest" in headers) == (not answered)
    assert response.json()[0]["unsure"] == (not answered)
    assert (response.json()[0]["score"] == 0.75) == answered
    return what


def at_rest(client: TestClient) -> None:
    for gauge in ("te_fallback_in_flight", "te_fallback_open", "te_queue_size"):
        assert sample(client, gauge) == 0


@pytest.mark.parametrize("path", ["/predict", "/classify"])
def test_an_endpoint_answers_what_the_first_model_is_unsure_of(
    path: str, overconfident: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEY", "secret")
    server = Server(says_negative)
    with (
        server.running() as url,
        serving(overconfident, 1.0, f"big={url}{path}/", fallback_model="m") as (client, _),
    ):
        pair = {"inputs": {"text": "a", "text_pair": "b"}, "truncation_direction": "Left"}
        assert client.post("/predict", json=pair).headers["x-model"] == "big"
        assert outcome(client, "a") == "answered"
        raw = client.post("/predict", json={"inputs": [[text] for text in TEXTS], "raw_scores": True})
        assert raw.headers["x-model"] == "big"
        for answer in raw.json():
            shown = {entry["label"]: entry["score"] for entry in answer}
            assert shown == pytest.approx({"negative": np.log(0.75), "positive": np.log(0.25)}, rel=1e-5)
    first, pair, *_ = server.requests
    assert set(server.keys) == {"Bearer secret"}
    if path == "/predict":
        assert first == {"inputs": [["text"]], "raw_scores": False, "truncate": True}
        expected = {"inputs": [["a", "b"]], "raw_scores": False, "truncate": True, "truncation_direction": "Left"}
    else:
        assert first == {"model": "m", "input": ["text"]}
        expected = {"model": "m", "input": ["a\nb"]}
    assert pair == expected


def test_each_fault_alone_leaves_the_first_model_s_answer(overconfident: Path, threshold: float, unsure: str) -> None:
    server = Server(says_negative)
    with server.running() as url, serving(overconfident, threshold, f"big={url}/predict") as (client, _):
        for fault in FAULTS:
            server.faults = [fault]
            assert outcome(client, unsure) == "error", fault
            assert outcome(client, unsure) == "answered", "one fault does not turn it off"
        assert sample(client, "te_fallback_count", outcome="error") == len(FAULTS)
        at_rest(client)
    with (
        server.running() as url,
        serving(overconfident, threshold, f"big={url}/predict", fallback_timeout_ms=SHORT_MS) as (client, _),
    ):
        server.faults = ["hang"]
        assert outcome(client, unsure) == "timeout"
        at_rest(client)


def test_faults_under_load_cost_no_answer(overconfident: Path, threshold: float) -> None:
    """Eight clients at once, and faults at random: every text has its answer, or the first model's."""
    server, random_faults = Server(says_negative), random.Random(7)
    server.faults = [None] + [random_faults.choice([*FAULTS, "hang", None]) for _ in range(30)]
    with (
        server.running() as url,
        serving(
            overconfident, threshold, f"big={url}/predict", fallback_timeout_ms=SHORT_MS, fallback_concurrency=4
        ) as (client, cascade),
        ThreadPoolExecutor(8) as clients,
    ):
        cascade.breaker = Breaker(pause_s=0.02)
        batch = [[text] for text in TEXTS]
        sent = [
            clients.submit(client.post, "/predict", json={"inputs": batch, "timeout_ms": LONG_MS}) for _ in range(40)
        ]
        responses = [future.result() for future in sent]
        assert {response.status_code for response in responses} == {200}
        assert {response.headers["x-unsure"] for response in responses} <= {"0", "6"}
        server.faults = []
        while client.post("/predict", json={"inputs": batch}).headers["x-unsure"] != "0":
            time.sleep(0.01)
        at_rest(client)


def test_one_that_is_killed_is_left_alone_and_comes_back(overconfident: Path, threshold: float, unsure: str) -> None:
    server = Server(says_negative)
    with server.running() as url:
        port = int(url.rpartition(":")[2])
    asked = len(server.requests)
    with serving(overconfident, threshold, f"big={url}/predict") as (client, cascade):  # it starts all the same
        now = 0.0
        cascade.breaker = Breaker(failures=5, pause_s=10.0, clock=lambda: now)
        assert [outcome(client, unsure) for _ in range(8)] == ["error"] * 5 + ["open"] * 3
        assert sample(client, "te_fallback_open") == 1
        with server.running(port):
            assert outcome(client, unsure) == "open"
            assert len(server.requests) == asked
            now = 10.0
            assert [outcome(client, unsure) for _ in range(3)] == ["answered"] * 3
        at_rest(client)


def test_what_an_endpoint_has_to_be_is_checked_before_anything_listens(overconfident: Path) -> None:
    server = Server(says_negative)
    config = ServeConfig((f"films={overconfident}",), threshold=0.9)
    with server.running() as url:
        assert labels_of(Endpoint(f"{url}/predict"), LABELS) == ["negative", "positive"]
        assert labels_of(Endpoint(f"{url}/classify"), LABELS) == LABELS
        with pytest.raises(ToolkitError, match="output 0 is named 'negative', not 'positive'"):
            labels_of(Endpoint(f"{url}/classify"), LABELS[::-1])
        with pytest.raises(ToolkitError, match="2 outputs for 3 labels"):
            labels_of(Endpoint(f"{url}/classify"), ("a", "b", "c"))
        server.faults = [503, 401, b"[1]"]
        assert labels_of(Endpoint(f"{url}/predict"), LABELS) is None, "it may answer later"
        with pytest.raises(ToolkitError, match="status 401") as caught:
            labels_of(Endpoint(f"{url}/predict"), LABELS)
        assert "TOOLKIT_API_KEY" in caught.value.expected
        with pytest.raises(ToolkitError, match="an answer of another form"):
            labels_of(Endpoint(f"{url}/predict"), LABELS)
        server.answer_of = lambda path, body: [[{"label": "good", "score": 1.0}]]
        with pytest.raises(ToolkitError, match="its labels are good; those of the first model are negative, positive"):
            build_app(ServeConfig(config.bundles, threshold=0.9, fallback=f"{url}/predict"))
    with pytest.raises(ToolkitError, match="http://"):
        labels_of(Endpoint("http://[::1/predict"), LABELS)
