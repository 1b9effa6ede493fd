"""Ranking, usage headers, deadlines, failures and clients that leave."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send
from tokenizers import Tokenizer

from serve.api.classify import ranked_labels
from serve.app import create_app
from serve.engine.limits import Limits
from serve.models.loading import load_predictor
from tests.support.arithmetic_bundles import save_arithmetic, slow_graph
from tests.support.data import rows
from tests.support.responses import error_of, sample
from toolkit.bundle.format import open_bundle
from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime
from toolkit.tasks import Task


def test_ranking_by_hand() -> None:
    three = Task("t", ("x", "y", "z"))
    assert ranked_labels(np.array([[0.5, 2.0, 0.5]]), three)[0] == [
        {"score": 2.0, "label": "y"}, {"score": 0.5, "label": "x"}, {"score": 0.5, "label": "z"},
    ]  # fmt: skip
    values = np.array([[0.1, 0.6, 0.3]])
    assert [entry["label"] for entry in ranked_labels(values, three, 2)[0]] == ["y", "z"]
    assert ranked_labels(values, three, 1)[0] == [{"score": 0.6, "label": "y"}]
    assert len(ranked_labels(np.zeros((2, 3)), three, 9)[1]) == 3


def test_scores_are_calibrated_and_raw_ones_are_not(overconfident: Path, client: TestClient) -> None:
    """By each endpoint, `client` has the same model without a calibration."""
    texts = [text for text, _ in rows(4, seed=5)]
    with TestClient(create_app(overconfident, limits=Limits(workers=1))) as calibrated:

        def answers(client: TestClient, path: str, **body: Any) -> list[list[dict[str, Any]]]:
            answer = client.post(path, json={"inputs": [[text] for text in texts], **body})
            assert answer.status_code == 200, answer.text
            return answer.json()

        before, after = answers(client, "/predict"), answers(calibrated, "/predict")
        assert answers(calibrated, "/predict", raw_scores=True) == answers(client, "/predict", raw_scores=True)
        assert calibrated.post("/", json={"inputs": texts, "parameters": {"top_k": 2}}).json() == after
        assert calibrated.post("/", json={"inputs": texts[0], "parameters": {"function_to_apply": "none"}}).json() == [
            answers(client, "/predict", raw_scores=True)[0]
        ]
        tensor = {"name": "text", "shape": [4], "datatype": "BYTES", "data": texts}
        outputs = calibrated.post("/v2/models/calibrated/infer", json={"inputs": [tensor]}).json()["outputs"]
        (scores,) = [output["data"] for output in outputs if output["name"] == "score"]
        assert scores == [entry["score"] for ranked in after for entry in ranked]
        for own, calm in zip(before, after, strict=True):
            assert [entry["label"] for entry in own] == [entry["label"] for entry in calm]
            odds = [math.log(ranked[0]["score"] / ranked[1]["score"]) for ranked in (own, calm)]
            assert odds[1] == pytest.approx(odds[0] / 2.5, rel=1e-5)


def test_headers_tell_the_cost(client: TestClient) -> None:
    headers = client.post("/predict", json={"inputs": ["the", "a"]}).headers
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("4", "5")
    assert all(headers[f"x-{name}-time"].isdigit() for name in ("total", "tokenization", "queue", "inference"))
    timing = dict(re.findall(r"(\w+);dur=(\d+\.\d{3})", headers["server-timing"]))
    assert list(timing) == ["tokenization", "queue", "inference", "total"]
    assert sum(float(timing[name]) for name in ("tokenization", "queue", "inference")) <= float(timing["total"]) + 0.01
    assert "x-truncated" not in headers


def test_truncation_of_any_input_is_told(client: TestClient) -> None:
    def truncated(inputs: Any) -> str | None:
        return client.post("/predict", json={"inputs": inputs}).headers.get("x-truncated")

    assert truncated("good " * 30) is None  # 30 words, [CLS] and [SEP]: just as long as the model takes
    assert truncated("good " * 31) == "true"
    assert truncated([["good"], ["good", "a"], ["good", "dull " * 40], ["a"]]) == "true"
    assert truncated([["good"], ["good", "a"]]) is None


@pytest.fixture
def slow(tmp_path: Path, tokenizer: Tokenizer) -> Iterator[TestClient]:
    """A model whose every batch takes tenths of a second."""
    bundle = save_arithmetic(tmp_path / "slow", tokenizer, slow_graph(150))
    with TestClient(create_app(bundle, limits=Limits(workers=1))) as client:
        yield client


def test_a_deadline_that_passes_is_504_and_the_next_request_is_answered(slow: TestClient) -> None:
    assert error_of(slow.post("/predict", json={"inputs": "a", "timeout_ms": 1})) == (
        504, "Timeout", "no answer within 1 ms",
    )  # fmt: skip
    assert sample(slow, "te_request_failure", err="timeout") == 1
    assert slow.post("/predict", json={"inputs": "a"}).json() == [{"label": "score", "score": 10.0}]
    assert slow.get("/info").json()["timeout_ms"] == 30_000


@pytest.mark.parametrize("part", ["encoder.encode", "runtime.run"])
def test_whatever_breaks_in_a_thread_is_answered_and_the_next_request_too(
    part: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panic in Rust, which tokenizers hands on, is no Exception."""

    class PanicError(BaseException):
        pass

    loaded = load_predictor(tiny_onnx)
    with TestClient(create_app(loaded, limits=Limits(workers=1)), raise_server_exceptions=False) as client:
        owner, name = getattr(loaded, part.split(".")[0]), part.split(".")[1]
        for error in (PanicError("x"), MemoryError(), RuntimeError("x"), RecursionError()):

            def broken(*_: Any, error: BaseException = error) -> None:
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(owner, name, broken)
                status, kind, _ = error_of(client.post("/predict", json={"inputs": [["good"], ["bad"]]}))
                assert (status, kind) == ((422, "Tokenizer") if name == "encode" else (424, "Backend"))
            assert client.post("/predict", json={"inputs": "good"}).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert sample(client, "te_queue_size") == 0


def test_a_client_that_left_is_dropped(tiny_onnx: Path) -> None:
    """By ASGI alone: the client is gone as soon as its request was read, while the only worker is busy."""
    import asyncio
    import threading

    class Held:
        def __init__(self, inner: OnnxRuntime) -> None:
            self.inner, self.release, self.runs = inner, threading.Event(), 0

        def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
            self.runs += 1
            assert self.release.wait(30)
            return self.inner.run(batch)

    bundle = open_bundle(tiny_onnx)
    held = Held(OnnxRuntime(bundle.weights, threads=1))
    app = create_app(Predictor(bundle, held), limits=Limits(workers=1))
    body = b'{"inputs": "good"}'
    scope: Scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        "root_path": "", "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip

    async def ask(leave: asyncio.Event) -> int:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        statuses: list[int] = []

        async def receive() -> Any:
            for message in messages:
                return message
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        receiving: Receive = receive
        sending: Send = send
        await app(dict(scope), receiving, sending)
        return statuses[0]

    async def main() -> None:
        async with asyncio.timeout(30), app.router.lifespan_context(app):
            engine, never, now = app.state.models.get().engine, asyncio.Event(), asyncio.Event()
            staying = asyncio.create_task(ask(never))
            while not held.runs:
                await asyncio.sleep(0.001)
            leaving = asyncio.create_task(ask(now))
            while engine.in_flight < 2:
                await asyncio.sleep(0.001)
            now.set()
            assert await leaving == 499
            assert engine.in_flight == 1
            registry = app.state.metrics.registry
            assert registry.get_sample_value("te_queue_size") == 0
            assert registry.get_sample_value("te_request_failure_total", {"err": "dropped"}) == 1
            held.release.set()
            assert await staying == 200
            assert (engine.in_flight, held.runs) == (0, 1)

    asyncio.run(main())
