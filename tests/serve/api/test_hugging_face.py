"""The examples in docs/clients.md run against a real server, and Hugging Face's own client works unchanged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.app import create_app
from serve.http.api_keys import ApiKeySet
from tests.support.arithmetic_bundles import SUM, save_arithmetic
from tests.support.browser import run_browser
from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, serving
from toolkit.inference.predictor import open_predictor

EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(encoding="utf-8"), re.DOTALL)
HERE = "http://localhost:8080"
TEXT = "a warm and funny film"
LABELS = ("negative", "positive")


@pytest.fixture(scope="module")
def address(tiny_onnx: Path) -> Iterator[str]:
    options = ("--workers", "1", "--log-format", "none", "--cors-origins", "*")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (_, url):
        yield url


@pytest.fixture(scope="module")
def lines(tiny_onnx: Path) -> list[str]:
    """The printed output of the Python and JavaScript examples."""
    scores = open_predictor(tiny_onnx, threads=1).predict([TEXT])[0]
    ranked = sorted(zip(LABELS, scores, strict=True), key=lambda pair: -pair[1])
    return [f"{label}: {score:.3f}" for label, score in ranked]


def example(language: str, address: str, containing: str = "") -> str:
    (source,) = [block for name, block in EXAMPLES if name == language and containing in block]
    assert HERE in source
    return source.replace(HERE, address)


def printed(*command: str) -> str:
    online = os.environ | {"HF_HUB_OFFLINE": "0"}  # else Hugging Face's client refuses even this machine
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, env=online)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(address: str, tiny_onnx: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    first, second = json.loads(printed("bash", "-c", example("bash", address)))
    predictor = open_predictor(tiny_onnx, threads=1)
    assert first[0]["score"] == pytest.approx(predictor.predict([TEXT])[0].max(), abs=1e-6)
    assert second[0]["score"] == pytest.approx(predictor.predict(["dull"], ["and far too long"])[0].max(), abs=1e-6)


def test_python(address: str, lines: list[str]) -> None:
    source = example("python", address, "urllib")
    assert printed(sys.executable, "-c", source).splitlines() == lines
    done = subprocess.run(
        [sys.executable, "-c", source.replace(TEXT, "")], capture_output=True, text=True, timeout=WAIT
    )
    assert (done.returncode, done.stderr) == (1, "`inputs` cannot be empty\n")


def test_hugging_face(address: str, lines: list[str]) -> None:
    assert printed(sys.executable, "-c", example("python", address, "InferenceClient")).splitlines() == lines[:1]


def test_javascript(address: str, lines: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = example("javascript", address)
    node = shutil.which("node")
    if node is not None:
        assert printed(node, "-e", source).splitlines() == lines
        return
    page = tmp_path / "page.html"
    show = "console.log = text => document.querySelector('pre').textContent = text;"
    page.write_text(f"<pre></pre><script>{show}{source}</script>", encoding="utf-8")
    browser = request.getfixturevalue("browser")
    arguments = ("--virtual-time-budget=4000", "--dump-dom", page.as_uri())
    dom = run_browser(browser, tmp_path / "profile", *arguments, timeout=120).stdout
    assert re.findall(r"\w+: \d\.\d{3}", dom) == lines


HUGGING_FACE = """
import json, sys
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

client, texts = InferenceClient(model=sys.argv[1]), sys.argv[2:]
found = [[{"label": one.label, "score": one.score} for one in client.text_classification(text)] for text in texts]
raw = client.text_classification(texts[0], function_to_apply="none", top_k=1)
own = client.text_classification(texts[0], function_to_apply="softmax")
refused = []
for text, function in ((texts[0], "sigmoid"), ("", "softmax")):
    try:
        client.text_classification(text, function_to_apply=function)
    except HfHubHTTPError as error:
        refused.append(error.response.status_code)
print(json.dumps([found, [one.score for one in raw], len(own), refused]))
"""


def test_hugging_face_s_client_gets_what_the_predictor_says(address: str, tiny_onnx: Path) -> None:
    texts = [TEXT, "an awful plot", "x"]
    answers, raw, count, refused = json.loads(printed(sys.executable, "-c", HUGGING_FACE, address, *texts))
    predictor = open_predictor(tiny_onnx, threads=1)
    for answer, expected in zip(answers, predictor.predict(texts), strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert [scores[label] for label in LABELS] == pytest.approx(list(expected), abs=1e-6)
    assert raw == pytest.approx([predictor.logits(predictor.encoder.encode([TEXT]))[0].max()], abs=1e-5)
    assert (count, refused) == (2, [422, 400])


@pytest.fixture
def sums(tokenizer: Tokenizer, tmp_path: Path) -> Iterator[Any]:
    bundle = save_arithmetic(tmp_path / "sum", tokenizer, SUM)
    with TestClient(
        create_app(bundle, keys=ApiKeySet(["secret"])), headers={"Authorization": "Bearer secret"}
    ) as client:
        yield client


def scores(*values: float) -> list[dict[str, Any]]:
    return [{"score": value, "label": "score"} for value in values]


@pytest.mark.parametrize("rest", [{"parameters": {}}, {"options": {"wait_for_model": True}}, {"parameters": None}])
def test_with_parameters_two_strings_are_two_texts_and_a_list_each(sums: Any, rest: dict[str, Any]) -> None:
    # ids: [CLS] 2, a 5, b 6, [SEP] 3
    assert sums.post("/", json={"inputs": ["a", "b"]} | rest).json() == [scores(10.0), scores(11.0)]
    assert sums.post("/", json={"inputs": ["a", "b", "a"]} | rest).json() == [scores(10.0), scores(11.0), scores(10.0)]
    assert sums.post("/", json={"inputs": "a"} | rest).json() == [scores(10.0)]
    assert sums.get("/metrics").text.count('te_request_success{method="single"} 1.0') == 1


TEI = [
    {"inputs": TEXT}, {"inputs": [TEXT]}, {"inputs": ["dull", TEXT]}, {"inputs": [["dull", TEXT], [TEXT]]},
    {"inputs": TEXT, "raw_scores": True}, {"inputs": [[TEXT]], "top_k": 1}, {"inputs": "dull " * 40},
    {"inputs": "good " * 20 + "bad " * 20, "truncation_direction": "Left"},
    {"inputs": {"text": TEXT}, "timeout_ms": 5000},
]  # fmt: skip


@pytest.mark.parametrize("body", TEI)
def test_without_parameters_it_answers_as_predict_does(address: str, body: dict[str, Any]) -> None:
    status, answer = ask(address, "/", body)
    assert (status, json.loads(answer)) == (200, json.loads(ask(address, "/predict", body)[1]))


def test_options_of_both_kinds_work_and_are_not_mixed(address: str) -> None:
    too_long = "good " * 40
    for body, problem in (
        ({"inputs": too_long, "truncate": False}, "more than the 32"),
        ({"inputs": too_long, "parameters": {"truncation": False}}, "more than the 32"),
        ({"inputs": TEXT, "parameters": {"max_length": 5}}, "`parameters` has an unknown field 'max_length'"),
        ({"inputs": TEXT, "parameters": {}, "raw_scores": True}, "`raw_scores` stands beside `parameters`"),
    ):
        status, answer = ask(address, "/", body)
        assert status == 422
        assert problem in json.loads(answer)["error"]
    raw = json.loads(ask(address, "/", {"inputs": TEXT, "raw_scores": True})[1])
    assert raw != json.loads(ask(address, "/", {"inputs": TEXT})[1])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": []}, 400),
        ({"inputs": [""]}, 400),
        ({"inputs": [["a"], "b"]}, 422),
        ({"inputs": ["a", 5], "parameters": {}}, 422),
        ({"inputs": ["a"] * 33, "parameters": {}}, 422),
        ({"inputs": 5}, 422),
        ({"inputs": "\ud800"}, 422),
        ({"inputs": ["a"] * 33}, 422),
        ({"inputs": "a", "parameters": {"top_k": 0}}, 422),
        ({"inputs": "a", "parameters": {"function_to_apply": "softmax"}}, 422),
        ({}, 422),
    ],
)
def test_what_is_no_text_is_refused(sums: Any, body: dict[str, Any], status: int) -> None:
    answer = sums.post("/", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "error_type"}


def test_the_page_is_open_and_the_model_behind_the_same_path_is_not(sums: Any) -> None:
    del sums.headers["Authorization"]
    assert sums.get("/").status_code == 200
    assert sums.post("/", json={"inputs": "a"}).status_code == 401
