"""Requests and answers to the letter: every shape, every error, and documents that tell the truth about both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send
from tokenizers import Tokenizer

from serve.api.classify import ranked_labels
from serve.api.schemas import Info, Inputs, PredictRequest, PredictResponse, parse_inputs
from serve.app import create_app
from serve.engine.engine import Engine
from serve.engine.limits import Limits
from serve.exceptions import ErrorResponse
from serve.models.loading import load_predictor
from tests.support.arithmetic_bundles import LOG, SLOW, SMALL_TABLE, save_arithmetic
from tests.support.responses import error_of, sample
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, open_predictor
from toolkit.inference.runtimes import OnnxRuntime
from toolkit.tasks import Task

JSON = {"content-type": "application/json"}
ANSWER: TypeAdapter[Any] = TypeAdapter(PredictResponse)


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    limits = Limits(workers=1, max_client_batch_size=4, payload_limit=5000)
    with TestClient(create_app(tiny_onnx, limits=limits), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def predictor(tiny_onnx: Path) -> Predictor:
    return open_predictor(tiny_onnx, threads=1)


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
        assert {one["label"]: one["score"] for one in answer} == pytest.approx(
            dict(zip(("negative", "positive"), expected, strict=True)), abs=1e-6
        )
        assert [one["score"] for one in answer] == sorted((one["score"] for one in answer), reverse=True)


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
    ({}, 422, "Validation", "`inputs`: Field required"),
    ([], 422, "Validation", "body"),
    ("a", 422, "Validation", "body"),
]


@pytest.mark.parametrize(("body", "status", "error_type", "message"), ERRORS)
def test_every_wrong_request_is_told_what_was_wrong(
    body: Any, status: int, error_type: str, message: str, client: TestClient
) -> None:
    found = error_of(client.post("/predict", json=body))
    assert found[:2] == (status, error_type)
    assert re.search(message, found[2]), found[2]


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b'{"inputs": "a"', JSON, 422, "not JSON: .* at character 14"),
        (b"\xff\xfe{", JSON, 422, "not JSON in UTF-8"),
        (b'{"inputs": "\xe9"}', JSON, 422, "not JSON in UTF-8"),
        (b'{"inputs": "\\ud800"}', JSON, 422, "half of a surrogate pair"),
        (b'{"inputs": {"text": "a", "\\ud800": 1}}', JSON, 422, r"unknown field '\\ud800'"),
        (b"[" * 4900, JSON, 422, "not JSON"),
        (b'{"inputs": ' + b"1" * 4800 + b"}", JSON, 422, "not JSON"),
        (b'{"inputs": ' + b"[" * 2000 + b'"a"' + b"]" * 2000 + b"}", JSON, 422, "holds a list|not JSON"),
        (b'{"inputs": "a", "x": ' + b'{"a":' * 800 + b"1" + b"}" * 800 + b"}", JSON, 200, ""),
        (b'{"inputs": "a", "top_k": 1e999}', JSON, 422, "top_k"),
        (b'{"inputs": "a", "top_k": NaN}', JSON, 422, "top_k"),
        (b'{"inputs": "a", "timeout_ms": ' + b"9" * 400 + b"}", JSON, 422, "timeout_ms"),
        (b'{"inputs": -Infinity}', JSON, 422, "holds a number"),
        (b'{"inputs": "a"}\0', JSON, 422, "not JSON"),
        (b"\0" * 100, JSON, 422, "not JSON"),
        (b'\xef\xbb\xbf{"inputs": "a"}', JSON, 200, ""),  # a byte order mark, as some editors write it
        (b"", JSON, 422, "Field required"),
        (b'{"inputs": "a"}', {}, 415, "Content-Type is missing: expected application/json"),
        (b'{"inputs": "a"}', {"content-type": "text/plain; charset=utf-8"}, 415, "is text/plain"),
        (b"inputs=a", {"content-type": "application/x-www-form-urlencoded"}, 415, "urlencoded"),
        (b'{"inputs": "a"}', {"content-type": "text/x+json"}, 415, r"is text/x\+json"),
        (b"null", JSON, 422, "body"),
        (b'{"inputs": "' + b"a" * 5000 + b'"}', JSON, 413, "larger than 5000 bytes"),
    ],
)
def test_bodies_that_are_no_request(
    content: bytes, headers: dict[str, str], status: int, message: str, client: TestClient
) -> None:
    response = client.post("/predict", content=content, headers=headers)
    assert response.status_code == status
    if status != 200:
        assert error_of(response)[1] == "Validation"
        assert re.search(message, error_of(response)[2]), error_of(response)[2]


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 100, "\ufffe\uffff", "\u202e\u0301" * 50, "\U0001f600" * 100])
def test_strange_characters_are_text_like_any_other(text: str, client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/predict", json={"inputs": [[text], [text, text]]})
    assert answer.status_code == 200
    expected = [predictor.predict([text])[0].max(), predictor.predict([text], [text])[0].max()]
    assert [one[0]["score"] for one in answer.json()] == pytest.approx(expected, abs=1e-6)


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


def test_a_body_of_unannounced_length_is_cut_off(client: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"inputs": "'
        while sent < 100_000:
            sent += 1000
            yield b"a" * 1000
        yield b'"}'

    assert error_of(client.post("/predict", content=chunks(), headers=JSON))[:2] == (413, "Validation")


def test_a_json_suffix_and_a_charset_are_json_too(client: TestClient) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json"):
        assert client.post("/predict", content=b'{"inputs": "a"}', headers={"content-type": kind}).status_code == 200


def test_wrong_paths_and_methods(client: TestClient) -> None:
    assert error_of(client.post("/predictions", json={}))[:2] == (404, "Validation")
    response = client.get("/predict")
    assert error_of(response)[:2] == (405, "Validation")
    assert response.headers["allow"] == "POST"


def test_raw_scores_truncation_and_unknown_fields(client: TestClient, predictor: Predictor) -> None:
    text = " ".join(["good"] * 30 + ["awful"] * 30)
    for direction in ("right", "left"):
        encoded = predictor.encoder.encode([text], None, direction)  # type: ignore[arg-type]
        logits = predictor.logits(encoded)[0]
        for spelling in (direction, direction.title()):
            body = {"inputs": text, "raw_scores": True, "truncation_direction": spelling, "truncate": True, "x": 1}
            found = {one["label"]: one["score"] for one in client.post("/predict", json=body).json()}
            assert [found["negative"], found["positive"]] == pytest.approx(logits.tolist(), abs=1e-5)
    default = client.post("/predict", json={"inputs": text, "raw_scores": True})
    right = client.post("/predict", json={"inputs": text, "raw_scores": True, "truncation_direction": "Right"})
    assert (default.status_code, right.status_code) == (200, 200)
    assert default.json() == right.json() != client.post("/predict", json=body).json()


def test_ranking_by_hand() -> None:
    three = Task("t", ("x", "y", "z"))
    assert ranked_labels(np.log([[1.0, 6.0, 3.0]]), three, raw_scores=False)[0] == [
        {"score": pytest.approx(0.6), "label": "y"}, {"score": pytest.approx(0.3), "label": "z"},
        {"score": pytest.approx(0.1), "label": "x"},
    ]  # fmt: skip
    assert ranked_labels(np.array([[0.5, 2.0, 0.5]]), three, raw_scores=True)[0] == [
        {"score": 2.0, "label": "y"}, {"score": 0.5, "label": "x"}, {"score": 0.5, "label": "z"},
    ]  # fmt: skip
    assert [one["label"] for one in ranked_labels(np.log([[1.0, 6.0, 3.0]]), three, top_k=2)[0]] == ["y", "z"]
    assert ranked_labels(np.log([[1.0, 6.0, 3.0]]), three, top_k=1)[0] == [{"score": pytest.approx(0.6), "label": "y"}]
    assert len(ranked_labels(np.zeros((2, 3)), three, top_k=9)[1]) == 3
    labels = Task("t", ("x", "y"), kind="multi_label")
    assert ranked_labels(np.log([[0.25, 3.0]]), labels, raw_scores=False)[0] == [
        {"score": pytest.approx(0.75), "label": "y"}, {"score": pytest.approx(0.2), "label": "x"},
    ]  # fmt: skip
    regression = Task("t", ("score",), kind="regression")
    assert ranked_labels(np.array([[3.25]]), regression, raw_scores=False) == [[{"label": "score", "score": 3.25}]]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Predictor]:
    """Regression models that give NaN, or fail, for some inputs."""
    folder = tmp_path_factory.mktemp("failing")
    found = {}
    for name, graph in {"log": LOG, "small_table": SMALL_TABLE}.items():
        bundle = open_bundle(save_arithmetic(folder / name, tokenizer, graph))
        found[name] = Predictor(bundle, OnnxRuntime(bundle.weights, threads=1))
    return found


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


def test_a_fault_of_the_server_is_json_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Engine, "predict", broken)
    found = error_of(client.post("/predict", json={"inputs": "a"}))
    assert found[:2] == (500, "Backend")
    assert "secret" not in found[2]


def test_before_the_model_is_loaded_only_liveness_answers(tiny_onnx: Path) -> None:
    client = TestClient(create_app(tiny_onnx))  # not entered: the lifespan has not begun
    assert error_of(client.post("/predict", json={"inputs": "a"}))[:2] == (503, "Unhealthy")
    for path in ("/health", "/health/ready", "/info"):
        assert error_of(client.get(path))[:2] == (503, "Unhealthy")
    assert client.get("/health/live").status_code == 200


def test_info_tells_what_is_served(client: TestClient, tiny_onnx: Path) -> None:
    shown = Info.model_validate(client.get("/info").json())
    bundle = open_bundle(tiny_onnx)
    assert (shown.model_id, shown.model_sha, shown.digest) == ("onnx", bundle.digest, bundle.digest)
    assert client.get("/info").json()["model_type"] == {
        "classifier": {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
    }
    assert (shown.max_input_length, shown.max_client_batch_size, shown.payload_limit) == (32, 4, 5000)
    assert (shown.task, shown.labels, shown.precision) == ("auto", ["negative", "positive"], "fp32")
    assert "onnxruntime" in shown.versions


def test_metrics_count_every_request_once_and_what_became_of_it(tiny_onnx: Path) -> None:
    limits = Limits(workers=1, payload_limit=200)
    app, other = create_app(tiny_onnx, limits=limits), create_app(tiny_onnx)
    with TestClient(app) as client:
        for body in ({"inputs": "a"}, {"inputs": [["a"], ["the"]]}, {"inputs": []}, {}, {"inputs": "a" * 300}):
            client.post("/predict", json=body)
        client.post("/predict", json={"inputs": "a the " * 20, "truncate": False})
        client.get("/health")
        assert {m: sample(client, "te_request_count", method=m) for m in ("single", "batch", "invalid")} == {
            "single": 2, "batch": 1, "invalid": 3,
        }  # fmt: skip
        assert {m: sample(client, "te_request_success", method=m) for m in ("single", "batch")} == {
            "single": 1, "batch": 1,
        }  # fmt: skip
        assert sample(client, "te_request_failure", err="validation") == 4
        for name in ("", "_tokenization", "_queue", "_inference"):
            assert sample(client, f"te_request{name}_duration_count", model="onnx") == 2
            assert 0 <= sample(client, f"te_request{name}_duration_sum", model="onnx") < 60
        assert sample(client, "te_batch_next_size_sum", model="onnx") == 3
        assert sample(client, "te_batch_next_tokens_sum", model="onnx") == 9  # [CLS] word [SEP] each
        assert sample(client, "te_queue_size") == 0
        shown = client.get("/metrics")
        assert "_total{" not in shown.text.replace("process_cpu_seconds_total", "")
        assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
    with TestClient(other) as client:
        assert sample(client, "te_request_count", method="single") == 0


def test_headers_tell_the_cost(client: TestClient) -> None:
    headers = client.post("/predict", json={"inputs": ["the", "a"]}).headers
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("4", "5")
    assert all(headers[f"x-{name}-time"].isdigit() for name in ("total", "tokenization", "queue", "inference"))
    timing = dict(re.findall(r"(\w+);dur=(\d+\.\d{3})", headers["server-timing"]))
    assert list(timing) == ["tokenization", "queue", "inference", "total"]
    assert sum(float(timing[name]) for name in ("tokenization", "queue", "inference")) <= float(timing["total"]) + 0.01
    assert "x-truncated" not in headers


def test_truncation_of_any_input_is_told(client: TestClient) -> None:
    def told(inputs: Any) -> str | None:
        return client.post("/predict", json={"inputs": inputs}).headers.get("x-truncated")

    assert told("good " * 30) is None  # 30 words, [CLS] and [SEP]: just as long as the model takes
    assert told("good " * 31) == "true"
    assert told([["good"], ["good", "a"], ["good", "dull " * 40], ["a"]]) == "true"
    assert told([["good"], ["good", "a"]]) is None


def test_top_k_cuts_every_answer_of_a_batch(client: TestClient) -> None:
    everything = client.post("/predict", json={"inputs": [["good"], ["awful"]]}).json()
    assert client.post("/predict", json={"inputs": [["good"], ["awful"]], "top_k": 1}).json() == [
        one[:1] for one in everything
    ]
    assert client.post("/predict", json={"inputs": "good", "top_k": 5}).json() == everything[0]
    assert client.post("/predict", json={"inputs": "good", "top_k": 1.0}).json() == everything[0][:1]
    assert client.post("/predict", json={"inputs": "good", "top_k": 1.5}).status_code == 422


def test_a_deadline_that_passes_is_504_and_the_next_request_is_answered(slow: TestClient) -> None:
    assert error_of(slow.post("/predict", json={"inputs": "a", "timeout_ms": 1})) == (
        504, "Timeout", "no answer within 1 ms",
    )  # fmt: skip
    assert sample(slow, "te_request_failure", err="timeout") == 1
    assert slow.post("/predict", json={"inputs": "a"}).json() == [{"label": "score", "score": 10.0}]
    assert slow.get("/info").json()["timeout_ms"] == 30_000


@pytest.fixture
def slow(tmp_path: Path, tokenizer: Tokenizer) -> Iterator[TestClient]:
    """A model whose every batch takes tenths of a second."""
    bundle = save_arithmetic(tmp_path / "slow", tokenizer, SLOW.replace("ROUNDS", "60"))
    with TestClient(create_app(bundle, limits=Limits(workers=1))) as client:
        yield client


def test_the_openapi_document_is_true(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/predict"]["post"]
    documented = {int(status) for status in operation["responses"]}
    assert {status for _, status, *_ in ERRORS} | {200, 401, 413, 415, 424, 429, 500, 503, 504} == documented
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
        "inputs", "truncate", "truncation_direction", "raw_scores", "top_k", "timeout_ms",
    ]  # fmt: skip
    assert len(fields["inputs"]["anyOf"]) == 4


def test_docs_need_no_network(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 2
    assert [link for link in links if "//" in link] == []
    assert all(client.get(link).status_code == 200 for link in links)
    assert re.findall(r"https?://", page) == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "text_pair", "x"]), inner),
    max_leaves=8,
)


def reference(value: Any) -> tuple[list[list[str]], bool] | None:
    """What text-embeddings-inference's own deserializer makes of `inputs`: sequences and batch, or None."""
    if isinstance(value, str):
        return [[value]], False
    if not isinstance(value, list) or not value:
        return None
    if isinstance(value[0], str):
        return ([value], False) if len(value) <= 2 and all(isinstance(one, str) for one in value) else None
    for one in value:
        if not isinstance(one, list) or len(one) not in (1, 2) or not all(isinstance(part, str) for part in one):
            return None
    return value, True


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_inputs_mean_what_they_mean_to_text_embeddings_inference(value: Any) -> None:
    theirs = reference(value)
    try:
        found = PredictRequest.model_validate({"inputs": value}).inputs
    except ValidationError as refused:
        kinds = {error["type"] for error in refused.errors()}
        empty = theirs is not None and not all(any(sequence) for sequence in theirs[0])
        assert kinds == {"empty"} if empty else (theirs is None and kinds <= {"empty", "inputs"})
        return
    if theirs is not None:
        assert theirs == ([[part for part in text if part is not None] for text in found.texts], found.batch)
    else:
        assert "text" in json.dumps(value)  # ours alone: objects


def test_bundles_that_cannot_be_served(
    tiny_student: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolkitError, match=r"(?s)PyTorch bundle.*export it first: toolkit export .* --int8"):
        load_predictor(tiny_student)
    with pytest.raises(ToolkitError, match="no such directory"):
        load_predictor(tmp_path / "none")
    with pytest.raises(ToolkitError, match="does not run"):
        load_predictor(save_arithmetic(tmp_path / "fails", tokenizer, SMALL_TABLE))
    with pytest.raises(ToolkitError, match="not finite"):
        load_predictor(save_arithmetic(tmp_path / "nan", tokenizer, LOG))
    monkeypatch.delenv("TOOLKIT_BUNDLE", raising=False)
    with pytest.raises(ToolkitError, match="TOOLKIT_BUNDLE"):
        create_app()


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


def test_what_the_start_made_is_left_out_of_garbage_collection_until_the_end(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    from serve import app as app_module

    gc.unfreeze()
    monkeypatch.setattr(app_module, "YOUNG_OBJECTS", 12_345)  # another app of these tests may be running
    before = gc.get_threshold()
    with TestClient(create_app(tiny_onnx)) as client:
        assert client.get("/health/ready").status_code == 200
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold() == (12_345, *before[1:])
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


def test_tokenizers_start_no_threads_of_their_own(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for before, after in ((None, "false"), ("true", "true")):
        if before is None:
            monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
        else:
            monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
        load_predictor(tiny_onnx)
        assert os.environ["TOKENIZERS_PARALLELISM"] == after
