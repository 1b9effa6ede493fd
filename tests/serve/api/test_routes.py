"""Requests and answers of /predict, /info and /health: every shape, every error, and a document that is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from serve.api.schemas import Info, Inputs, PredictResponse, parse_inputs
from serve.app import create_app
from serve.exceptions import ErrorResponse
from tests.support.responses import error_of
from toolkit.bundle.format import open_bundle
from toolkit.inference.predictor import Predictor

ANSWER: TypeAdapter[Any] = TypeAdapter(PredictResponse)


TEXT, PAIR = ("good film", None), ("good film", "a dull plot")


SHAPES = [
    ("good film", (TEXT,), False),
    (["good film"], (TEXT,), False),
    (["good film", "a dull plot"], (PAIR,), False),
    ({"text": "good film"}, (TEXT,), False),
    ({"text": "good film", "text_pair": None}, (TEXT,), False),
    ({"text": "good film", "text_pair": "a dull plot"}, (PAIR,), False),
    ([["good film"]], (TEXT,), True),
    ([["good film"], ["good film", "a dull plot"]], (TEXT, PAIR), True),
    ([{"text": "good film"}], (TEXT,), True),
    ([{"text": "good film", "text_pair": "a dull plot"}, ["good film"]], (PAIR, TEXT), True),
    (["", "a dull plot"], (("", "a dull plot"),), False),
    (" ", ((" ", None),), False),
]


@pytest.mark.parametrize(("inputs", "texts", "batch"), SHAPES)
def test_every_shape_of_inputs_is_answered(
    inputs: Any, texts: tuple[Any, ...], batch: bool, client: TestClient, predictor: Predictor
) -> None:
    assert parse_inputs(inputs) == Inputs(texts, batch)
    response = client.post("/predict", json={"inputs": inputs})
    assert response.status_code == 200
    ANSWER.validate_python(response.json(), strict=True)
    answers = response.json() if batch else [response.json()]
    assert len(answers) == len(texts)
    for (text, pair), answer in zip(texts, answers, strict=True):
        expected = predictor.predict([text], None if pair is None else [pair])[0]
        assert {entry["label"]: entry["score"] for entry in answer} == pytest.approx(
            dict(zip(("negative", "positive"), expected, strict=True)), abs=1e-6
        )
        assert [entry["score"] for entry in answer] == sorted((entry["score"] for entry in answer), reverse=True)


HINT = r'a batch is a list of lists: \[\["first text"\]'


ERRORS = [
    ({"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
    ({"inputs": ""}, 400, "Empty", "`inputs` cannot be empty"),
    ({"inputs": ["", ""]}, 400, "Empty", "`inputs` cannot be empty"),
    ({"inputs": [["a"], []]}, 400, "Empty", r"`inputs\[1\]` cannot be empty"),
    ({"inputs": [["a"], [""]]}, 400, "Empty", r"`inputs\[1\]` cannot be empty"),
    ({"inputs": {"text": ""}}, 400, "Empty", "`inputs` cannot be empty"),
    ({"inputs": ["a", "b", "c"]}, 422, "Validation", f"3 entries.*{HINT}"),
    ({"inputs": [["a", "b", "c"]]}, 422, "Validation", rf"`inputs\[0\]` has 3 entries.*{HINT}"),
    ({"inputs": [["a"], "b"]}, 422, "Validation", rf"`inputs\[1\]` is a string among lists: {HINT}"),
    ({"inputs": ["a", ["b"]]}, 422, "Validation", "`inputs` holds a list"),
    ({"inputs": 7}, 422, "Validation", "`inputs` holds a number"),
    ({"inputs": None}, 422, "Validation", "`inputs` holds null"),
    ({"inputs": [True]}, 422, "Validation", r"`inputs\[0\]` holds a boolean"),
    ({"inputs": [[["a"]]]}, 422, "Validation", r"`inputs\[0\]` holds a list"),
    ({"inputs": [[{"text": "a"}]]}, 422, "Validation", r"`inputs\[0\]` holds an object"),
    ({"inputs": {"text_pair": "b"}}, 422, "Validation", "no field `text`"),
    ({"inputs": {"text": "a", "pair": "b"}}, 422, "Validation", "unknown field 'pair'"),
    ({"inputs": {"text": ["a"]}}, 422, "Validation", "`inputs` holds a list"),
    ({"inputs": [["a"]] * 5}, 422, "Validation", "batch size 5 > maximum allowed batch size 4"),
    ({"inputs": "good " * 40, "truncate": False}, 422, "Validation", "has 42 tokens, more than the 32"),
    ({"inputs": "a", "truncate": "yes"}, 422, "Validation", "`truncate`: Input should be a valid boolean"),
    ({"inputs": "a", "raw_scores": 1}, 422, "Validation", "`raw_scores`"),
    ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "`truncation_direction`.*'Right'"),
    ({"inputs": "a", "top_k": 0}, 422, "Validation", "`top_k`: Input should be greater than or equal to 1"),
    ({"inputs": "a", "top_k": True}, 422, "Validation", "`top_k`: Input should be a valid integer"),
    ({"inputs": "a", "timeout_ms": 0}, 422, "Validation", "`timeout_ms`: Input should be greater than or equal to 1"),
    ({"inputs": "a", "timeout_ms": 1e9}, 422, "Validation", "`timeout_ms`"),
    ({"inputs": "a", "timeout_ms": 600_001}, 422, "Validation", "`timeout_ms`: .* less than or equal to 600000"),
    ({"inputs": "a", "parameters": {"top_k": 2}}, 422, "Validation", "`parameters` .* stand beside `inputs`"),
    ({}, 422, "Validation", "`inputs`: Field required"),
    ([], 422, "Validation", "body"),
    ("a", 422, "Validation", "body"),
]


@pytest.mark.parametrize(("body", "status", "error_type", "message"), ERRORS)
def test_every_wrong_request_is_told_what_was_wrong(
    body: Any, status: int, error_type: str, message: str, client: TestClient
) -> None:
    error = error_of(client.post("/predict", json=body))
    assert error[:2] == (status, error_type)
    assert re.search(message, error[2]), error[2]


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 100, "\ufffe\uffff", "\u202e\u0301" * 50, "\U0001f600" * 100])
def test_strange_characters_are_text_like_any_other(text: str, client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/predict", json={"inputs": [[text], [text, text]]})
    assert answer.status_code == 200
    expected = [predictor.predict([text])[0].max(), predictor.predict([text], [text])[0].max()]
    assert [ranked[0]["score"] for ranked in answer.json()] == pytest.approx(expected, abs=1e-6)


def test_raw_scores_truncation_and_unknown_fields(client: TestClient, predictor: Predictor) -> None:
    text = " ".join(["good"] * 30 + ["awful"] * 30)
    for direction in ("right", "left"):
        encoded = predictor.encoder.encode([text], None, direction)  # type: ignore[arg-type]
        logits = predictor.logits(encoded)[0]
        for spelling in (direction, direction.title()):
            body = {"inputs": text, "raw_scores": True, "truncation_direction": spelling, "truncate": True, "x": 1}
            scores = {entry["label"]: entry["score"] for entry in client.post("/predict", json=body).json()}
            assert [scores["negative"], scores["positive"]] == pytest.approx(logits.tolist(), abs=1e-5)
    default = client.post("/predict", json={"inputs": text, "raw_scores": True})
    right = client.post("/predict", json={"inputs": text, "raw_scores": True, "truncation_direction": "Right"})
    assert (default.status_code, right.status_code) == (200, 200)
    assert default.json() == right.json() != client.post("/predict", json=body).json()


def test_regression_answers_a_number_and_never_nan(failing: dict[str, Predictor]) -> None:
    with TestClient(create_app(failing["log"])) as client:
        (answer,) = client.post("/predict", json={"inputs": "a"}).json()
        assert answer == {"label": "score", "score": pytest.approx(np.log(60 - 10), abs=1e-6)}
        assert error_of(client.post("/predict", json={"inputs": "the"}))[:2] == (424, "Backend")
        assert client.get("/health").status_code == 200  # one bad input is no bad model


def test_a_model_that_failed_is_asked_again_before_it_counts_as_unhealthy(
    failing: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(failing["small_table"])) as client:
        monkeypatch.setattr("serve.models.registry.PROBE", ("a", None))
        assert error_of(client.post("/predict", json={"inputs": "the"}))[:2] == (424, "Backend")
        assert client.get("/health/ready").status_code == 200
        monkeypatch.setattr("serve.models.registry.PROBE", ("the", None))
        assert error_of(client.post("/predict", json={"inputs": "the"}))[:2] == (424, "Backend")
        for path in ("/health", "/health/ready"):
            assert error_of(client.get(path))[:2] == (503, "Unhealthy")
        assert client.get("/health/live").status_code == 200


def test_info_tells_what_is_served(client: TestClient, tiny_onnx: Path) -> None:
    shown = Info.model_validate(client.get("/info").json())
    bundle = open_bundle(tiny_onnx)
    assert (shown.model_id, shown.model_sha, shown.digest) == ("onnx", bundle.digest, bundle.digest)
    assert shown.served_model_name == "onnx"
    assert client.get("/info").json()["model_type"] == {
        "classifier": {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    }
    assert (shown.max_input_length, shown.max_client_batch_size, shown.payload_limit) == (32, 4, 5000)
    assert (shown.task, shown.labels, shown.precision) == ("auto", ["negative", "positive"], "fp32")
    assert "onnxruntime" in shown.versions


def test_a_model_of_one_label_is_a_reranker(arithmetic: dict[str, Path]) -> None:
    with TestClient(create_app(arithmetic["sum"])) as client:
        labels = {"id2label": {"0": "score"}, "label2id": {"score": 0}}
        assert client.get("/info").json()["model_type"] == {"reranker": labels}


def test_top_k_cuts_every_answer_of_a_batch(client: TestClient) -> None:
    everything = client.post("/predict", json={"inputs": [["good"], ["awful"]]}).json()
    assert client.post("/predict", json={"inputs": [["good"], ["awful"]], "top_k": 1}).json() == [
        ranked[:1] for ranked in everything
    ]
    assert client.post("/predict", json={"inputs": "good", "top_k": 5}).json() == everything[0]
    assert client.post("/predict", json={"inputs": "good", "top_k": 1.0}).json() == everything[0][:1]
    assert client.post("/predict", json={"inputs": "good", "top_k": 1.5}).status_code == 422


def test_the_openapi_document_is_true(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/predict"]["post"]
    documented = {int(status) for status in operation["responses"]}
    assert {status for _, status, *_ in ERRORS} | {200, 401, 409, 413, 415, 424, 429, 500, 503, 504} == documented
    for status in documented - {200}:
        content = operation["responses"][str(status)]["content"]["application/json"]
        assert content["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
        ErrorResponse.model_validate(content["example"])
    assert "Retry-After" in operation["responses"]["429"]["headers"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert client.post("/predict", json=example["value"]).status_code == 200
    (schema,) = {body["schema"]["$ref"] for body in operation["requestBody"]["content"].values()}
    fields = document["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
    assert list(fields) == [
        "inputs", "truncate", "truncation_direction", "raw_scores", "top_k", "details", "abstain", "timeout_ms",
    ]  # fmt: skip
    assert len(fields["inputs"]["anyOf"]) == 4
