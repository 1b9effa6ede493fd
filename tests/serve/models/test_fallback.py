"""A second bundle behind the first model: its answers on every endpoint, its limits, and starts that are refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.limits import Limits
from serve.models.fallback import FallbackSource, open_fallback
from serve.models.loading import load_predictor, load_second
from tests.serve.models.conftest import TEXTS
from tests.support.gate import Gate
from tests.support.responses import sample
from tests.support.server import exit_of
from toolkit.bundle.format import new_manifest, open_bundle, write_bundle
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.hugging_face import open_hugging_face
from toolkit.inference.predictor import Predictor
from toolkit.tasks import Task

ONE = Limits(workers=1)
BATCH = [[text] for text in TEXTS]
BEST = 1 / (1 + math.exp(-1))  # of the second model


@pytest.fixture(scope="module")
def config(overconfident: Path, big: Path, threshold: float) -> ServeConfig:
    return ServeConfig((f"films={overconfident}",), threshold=threshold, fallback=str(big))


@pytest.fixture(scope="module")
def service(config: ServeConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config=config, limits=ONE)) as client:
        yield client


@pytest.fixture(scope="module")
def alone(config: ServeConfig) -> Iterator[TestClient]:
    with TestClient(create_app(config=replace(config, fallback=None), limits=ONE)) as client:
        yield client


def test_unsure_texts_get_the_answer_of_the_second_model_on_every_endpoint(
    service: TestClient, alone: TestClient, scores: np.ndarray, threshold: float, big: Path
) -> None:
    unsure = (scores < threshold).tolist()
    second = {"/predict": {"negative": BEST, "positive": 1 - BEST}, "raw": {"negative": 1.0, "positive": 0.0}}
    for path, options in (
        ("/predict", {}), ("/predict", {"raw_scores": True}), ("/models/films/predict", {"abstain": "error"}),
    ):  # fmt: skip
        body: dict[str, Any] = {"inputs": BATCH, **options}
        response, before = service.post(path, json=body), alone.post(path, json=body | {"abstain": False}).json()
        assert response.status_code == 200, "nothing is left to abstain from"
        expected = second["raw" if "raw_scores" in options else "/predict"]
        for answer, own, doubt in zip(response.json(), before, unsure, strict=True):
            shown = {entry["label"]: entry["score"] for entry in answer}
            assert shown == (pytest.approx(expected) if doubt else {entry["label"]: entry["score"] for entry in own})
        digest = open_bundle(big).digest[:12]
        assert response.headers["x-model"] == f"films={len(TEXTS) - sum(unsure)}, big={sum(unsure)}"
        assert response.headers["x-model-digest"].endswith(f", {digest}")
        assert (response.headers["x-unsure"], response.headers["x-fallback"]) == ("0", "answered")
    for text, doubt in zip(TEXTS, unsure, strict=True):
        response = service.post("/", json={"inputs": text, "parameters": {"top_k": 1}})
        assert (response.headers["x-model"], response.headers.get("x-fallback")) == (
            ("big", "answered") if doubt else ("films", None)
        )  # fmt: skip
        assert (response.json()[0][0]["score"] == pytest.approx(BEST)) == doubt
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    outputs = service.post("/v2/models/films/infer", json={"inputs": [tensor]}).json()["outputs"]
    (data,) = [output["data"] for output in outputs if output["name"] == "score"]
    assert [best == pytest.approx(BEST) for best in data[::2]] == unsure
    assert sample(service, "te_predict_unsure", model="films") == 0
    assert sample(service, "te_fallback_inputs", outcome="answered") == 5 * sum(unsure)
    assert sample(service, "te_fallback_count", outcome="answered") == 4 + sum(unsure)
    assert sample(service, "te_batch_next_size_sum", model="big") == 5 * sum(unsure)
    for gauge in ("te_fallback_in_flight", "te_fallback_open", "te_fallback_queue_size", "te_queue_size"):
        assert sample(service, gauge) == 0


def test_a_server_without_one_has_no_metrics_and_no_header_of_it(alone: TestClient) -> None:
    response = alone.post("/predict", json={"inputs": BATCH})
    assert (response.headers["x-model"], response.headers["x-unsure"]) == ("films", str(len(TEXTS) // 2))
    assert "x-fallback" not in response.headers
    assert "te_fallback" not in alone.get("/metrics").text


def test_a_second_model_that_hangs_leaves_the_first_one_s_answer(
    config: ServeConfig, big: Path, alone: TestClient, scores: np.ndarray, threshold: float
) -> None:
    loaded = load_predictor(big)
    gate = Gate(loaded.runtime)
    source, quick = FallbackSource("big", Predictor(loaded.bundle, gate)), replace(config, fallback_timeout_ms=30)
    unsure = TEXTS[int(np.argmin(scores))]
    with TestClient(create_app(config=quick, limits=ONE, fallback=source)) as client:
        for _ in range(5):
            response = client.post("/predict", json={"inputs": unsure, "details": True})
            own = alone.post("/predict", json={"inputs": unsure, "details": True})
            assert (response.status_code, response.json()) == (200, own.json())
            assert [response.headers[name] for name in ("x-model", "x-unsure")] == ["films", "1"]
            assert response.headers["x-fallback"] in ("timeout", "busy"), "what would come too late is not begun"
        sure = TEXTS[int(np.argmax(scores))]
        assert client.post("/predict", json={"inputs": sure}).headers["x-unsure"] == "0"
        gate.open()
    assert len(gate.batches) == 1, "what waited when its time was over never ran"


def test_a_teacher_in_pytorch_answers_as_its_files_were_when_it_was_opened(
    config: ServeConfig, scores: np.ndarray, tmp_path: Path, tiny_bert: Callable[..., object],
    save_model: Callable[..., Path],
) -> None:  # fmt: skip
    """A bundle and a plain directory, whose files are exchanged for others before the first request."""
    names = {"id2label": {0: "positive", 1: "negative"}, "label2id": {"positive": 0, "negative": 1}}
    plain = save_model(tiny_bert(3, **names), tmp_path / "plain")
    other = save_model(tiny_bert(4, **names), tmp_path / "other")
    manifest = new_manifest(
        "teacher", Task("auto", ("positive", "negative")).to_dict(), max_length=64, parent=None, made_from={},
        config={}, seed=0, data={},
    )  # fmt: skip
    with write_bundle(tmp_path / "sealed", manifest) as staging:
        shutil.copytree(plain, staging, dirs_exist_ok=True)
    text, patient = TEXTS[int(np.argmin(scores))], replace(config, fallback_timeout_ms=20_000)
    expected = open_hugging_face(str(plain), threads=0).predict([text])[0].tolist()
    for folder in (plain, tmp_path / "sealed"):
        first = {"films": load_predictor(config.bundles[0].removeprefix("films="))}
        source = open_fallback(replace(config, fallback=f"big={folder}"), first, ONE)
        shutil.copy(other / "model.safetensors", folder / "model.safetensors")
        with TestClient(create_app(config=patient, limits=ONE, fallback=source)) as client:
            response = client.post("/predict", json={"inputs": text})
            assert response.headers["x-fallback"] == "answered"
            assert {entry["label"]: entry["score"] for entry in response.json()} == pytest.approx(
                dict(zip(("positive", "negative"), expected, strict=True)), abs=1e-5
            )
            assert response.headers["x-model"] == "big"
            assert len(response.headers["x-model-digest"]) == 12
            assert sample(client, "te_fallback_in_flight") == sample(client, "te_fallback_queue_size") == 0
    with pytest.raises(ToolkitError, match=r"sealed/model\.safetensors is damaged"):
        load_second(str(tmp_path / "sealed"))
    with pytest.raises(ToolkitError, match="is no bundle, which alone can be signed"):
        load_second(str(plain), "key.pem")


def test_an_exchanged_model_keeps_its_fallback(config: ServeConfig, tiny_onnx: Path, alone: TestClient) -> None:
    app = create_app(config=config, limits=ONE)
    with TestClient(app) as client:
        app.state.models.switch("films", load_predictor(tiny_onnx))
        response = client.post("/predict", json={"inputs": BATCH})
        assert (response.headers["x-fallback"], response.headers["x-unsure"]) == ("answered", "0")
        assert [card["fallback"] for card in client.get("/info").json()["models"]] == ["big"]
    assert [card["fallback"] for card in alone.get("/info").json()["models"]] == [None]


def test_a_text_may_be_unsure_to_both(config: ServeConfig, big: Path, scores: np.ndarray) -> None:
    predictor = load_predictor(big)
    promise = {"kind": "accurate", "share": 0.9, "confidence": 0.95, "threshold": 0.9, "coverage": 0.5}
    predictor.calibration = {"thresholds": [promise]}  # type: ignore[typeddict-item]
    with TestClient(create_app(config=config, limits=ONE, fallback=FallbackSource("big", predictor))) as client:
        body = {"inputs": TEXTS[int(np.argmin(scores))], "details": True}
        response = client.post("/predict", json=body)
        assert [response.headers[name] for name in ("x-model", "x-unsure", "x-fallback")] == ["big", "1", "answered"]
        assert response.json()[0]["unsure"] is True
        assert client.post("/predict", json=body | {"abstain": "error"}).status_code == 409


def test_starts_that_cannot_work_are_refused(
    config: ServeConfig, overconfident: Path, tiny_onnx: Path, arithmetic: dict[str, Path],
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    films, port = f"films={overconfident}", ("--port", "0")
    for first, fallback, options, shown in (
        (films, str(tiny_onnx), (), "nothing tells what films is unsure of"),
        (str(arithmetic["sum"]), str(tiny_onnx), (), "nothing tells what sum is unsure of"),
        (films, str(arithmetic["sum"]), ("--threshold", "0.9"), "is a regression model"),
        (films, str(tmp_path / "none"), ("--threshold", "0.9"), "no such"),
        (films, f"films={tiny_onnx}", ("--threshold", "0.9"), "would be films, as a model that is served"),
        (films, "http://127.0.0.1:1/embed", ("--threshold", "0.9"), "is no endpoint that is known"),
    ):
        code, said = exit_of(capsys, first, *port, "--fallback", fallback, *options)
        assert code == 2
        assert shown in " ".join(said.split())
    first = load_predictor(overconfident)
    first.task = replace(first.task, labels=("negative", "neutral"))
    with pytest.raises(
        ToolkitError, match=r"its labels are negative, positive; those of the first model are negative, neutral"
    ):
        open_fallback(config, {"films": first}, ONE)
