"""The Open Inference Protocol: what it says a server answers, and /predict's own answers inside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.api.tensors import InferResponse, V2Error
from serve.app import create_app
from serve.engine.limits import Limits
from serve.http.api_keys import ApiKeySet
from tests.support.arithmetic_bundles import LOG, SUM, save_arithmetic
from tests.support.responses import sample
from toolkit.bundle.format import open_bundle
from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime

JSON = {"content-type": "application/json"}
INFER = "/v2/models/films/infer"


@pytest.fixture(scope="module")
def client(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("protocol")
    log = open_bundle(save_arithmetic(folder / "log", tokenizer, LOG))
    models = {
        "films": tiny_onnx, "sum": save_arithmetic(folder / "sum", tokenizer, SUM),
        "log": Predictor(log, OnnxRuntime(log.weights, threads=1)),
    }  # fmt: skip
    limits = Limits(workers=1, max_client_batch_size=4, payload_limit=5000)
    with TestClient(create_app(models, limits=limits), raise_server_exceptions=False) as client:
        yield client


def text(*data: Any, shape: list[int] | None = None, name: str = "text", **rest: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape or [len(data)], "datatype": "BYTES", "data": list(data)} | rest


def error_of(response: Any) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    return response.status_code, V2Error.model_validate(response.json()).error


def test_the_server_tells_about_itself(client: TestClient) -> None:
    assert client.get("/v2").json().keys() == {"name", "version", "extensions"}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/sum/ready").json() == {"name": "sum", "ready": True}
    assert client.get("/v2/models/films").json() == {
        "name": "films", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [-1]},
            {"name": "text_pair", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1, 2]},
            {"name": "score", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }  # fmt: skip


def test_before_the_models_are_loaded_it_is_alive_and_not_ready(tiny_onnx: Path) -> None:
    client = TestClient(create_app(tiny_onnx))  # not entered: the lifespan has not begun
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/onnx", "/v2/models/onnx/ready"):
        assert error_of(client.get(path))[0] == 503
    assert error_of(client.post("/v2/models/onnx/infer", json={"inputs": [text("a")]}))[0] == 503


@pytest.mark.parametrize("shape", [[3], [3, 1]])
@pytest.mark.parametrize("nested", [False, True])
def test_texts_get_the_answers_of_predict(client: TestClient, shape: list[int], nested: bool) -> None:
    texts = ["good film", "a dull plot", "awful"]
    data = [[text] for text in texts] if nested else texts
    body = {"id": "r-1", "inputs": [text(*data, shape=shape)]}
    response = client.post(INFER, json=body)
    assert response.status_code == 200
    answer = InferResponse.model_validate(response.json(), strict=True)
    assert (answer.model_name, answer.id) == ("films", "r-1")
    assert answer.model_version == response.headers["x-model-digest"]
    label, score = answer.outputs
    assert (label.name, label.datatype, label.shape) == ("label", "BYTES", [3, 2])
    assert (score.name, score.datatype, score.shape) == ("score", "FP32", [3, 2])
    same = client.post("/models/films/predict", json={"inputs": [[text] for text in texts]}).json()
    assert label.data == [entry["label"] for row in same for entry in row]
    assert score.data == pytest.approx([entry["score"] for row in same for entry in row], abs=1e-6)
    assert response.headers["x-compute-tokens"] == "12"


def test_pairs_parameters_and_a_choice_of_outputs(client: TestClient) -> None:
    body = {
        "inputs": [text("awful", "good", name="text_pair"), text("a film", "a plot")],
        "outputs": [{"name": "score"}], "parameters": {"top_k": 1, "raw_scores": True, "anything": 1},
    }  # fmt: skip
    answer = client.post(INFER, json=body).json()
    assert "id" not in answer
    (score,) = answer["outputs"]
    assert (score["name"], score["shape"]) == ("score", [2, 1])
    same = {"inputs": [["a film", "awful"], ["a plot", "good"]], "raw_scores": True, "top_k": 1}
    expected = [row[0]["score"] for row in client.post("/models/films/predict", json=same).json()]
    assert score["data"] == pytest.approx(expected, abs=1e-5)


def test_regression_and_what_is_not_finite(client: TestClient) -> None:
    outputs = client.post("/v2/models/sum/infer", json={"inputs": [text("a", "a a")]}).json()["outputs"]
    assert [(output["shape"], output["data"]) for output in outputs] == [
        ([2, 1], ["score", "score"]),
        ([2, 1], [10.0, 15.0]),
    ]
    log = client.post("/v2/models/log/infer", json={"inputs": [text("a")]}).json()["outputs"][1]["data"]
    assert log == pytest.approx([np.log(50)], abs=1e-5)
    failed = client.post("/v2/models/log/infer", json={"inputs": [text("a", "the")]})
    assert error_of(failed) == (424, "the model gave scores that are not finite")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": []}, 422, "inputs"),
        ({}, 422, "inputs"),
        ({"inputs": [text(name="text", shape=[0])]}, 400, "cannot be empty"),
        ({"inputs": [text("")]}, 400, "cannot be empty"),
        ({"inputs": [text("a", name="text_pair")]}, 422, "expected one input `text`"),
        ({"inputs": [text("a"), text("b")]}, 422, "expected one input `text`"),
        ({"inputs": [text("a"), text("b", "c", name="text_pair")]}, 422, "not equally many"),
        ({"inputs": [text("a", shape=[2])]}, 422, "shape [2] and 1 strings"),
        ({"inputs": [text("a", "b", shape=[1, 2])]}, 422, "shape [1, 2] and 2 strings"),
        ({"inputs": [text("a", shape=[-1])]}, 422, "shape"),
        ({"inputs": [text("a", datatype="FP32")]}, 422, "datatype"),
        ({"inputs": [text(1)]}, 422, "data"),
        ({"inputs": [text("\ud800")]}, 422, "half of a surrogate pair"),
        ({"inputs": [text("a")], "id": "\ud800"}, 422, "id"),
        ({"inputs": [text("a", name="x")]}, 422, "name"),
        ({"inputs": [text("a")], "outputs": [{"name": "x"}]}, 422, "outputs"),
        ({"inputs": [text("a")], "parameters": {"top_k": 0}}, 422, "top_k"),
        ({"inputs": [text("a " * 60)], "parameters": {"truncate": False}}, 422, "more than the 32"),
        ({"inputs": [text(*"abcde")]}, 422, "batch size 5 > maximum allowed batch size 4"),
    ],
)
def test_errors_have_the_protocols_shape(client: TestClient, body: Any, status: int, message: str) -> None:
    import json

    error = error_of(client.post(INFER, content=json.dumps(body), headers=JSON))
    assert error[0] == status
    assert message in error[1]


def test_errors_of_http_have_it_too(client: TestClient, tiny_onnx: Path) -> None:
    for method, path, content, headers, status in (
        ("POST", "/v2/models/none/infer", b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": '
         b'["a"]}]}', JSON, 404),
        ("GET", "/v2/models/none", None, {}, 404), ("GET", "/v2/nowhere", None, {}, 404),
        ("GET", INFER, None, {}, 405), ("POST", INFER, b"{", JSON, 422), ("POST", INFER, b"\xff", JSON, 422),
        ("POST", INFER, b"[" * 4900, JSON, 422), ("POST", INFER, b"{}", {"content-type": "text/plain"}, 415),
        ("POST", INFER, b"x" * 6000, JSON, 413),
    ):  # fmt: skip
        assert error_of(client.request(method, path, content=content, headers=headers))[0] == status
    with TestClient(create_app(tiny_onnx, keys=ApiKeySet(["k"]))) as locked:
        assert error_of(locked.get("/v2/models/onnx"))[0] == 401
        assert locked.get("/v2/models/onnx", headers={"authorization": "Bearer k"}).status_code == 200


def test_it_is_counted_like_predict(tiny_onnx: Path) -> None:
    with TestClient(create_app(tiny_onnx, limits=Limits(workers=1))) as client:
        client.post("/v2/models/onnx/infer", json={"inputs": [text("a", "b")]})
        client.post("/v2/models/onnx/infer", json={})
        assert {method: sample(client, "te_request_count", method=method) for method in ("batch", "invalid")} == {
            "batch": 1, "invalid": 1,
        }  # fmt: skip
        assert sample(client, "te_request_failure", err="validation") == 1


def test_the_document_shows_its_errors(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if path.startswith("/v2") and status != "200":
                    content = response["content"]["application/json"]
                    assert content["schema"] == {"$ref": "#/components/schemas/V2Error"}
                    V2Error.model_validate(content["example"], strict=True)
                    assert set(content["example"]) == {"error"}
