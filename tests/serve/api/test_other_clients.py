"""Clients that others wrote work unchanged: tritonclient, and a client that openapi-python-client generates."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, serving
from toolkit.bundle.format import open_bundle

TEXTS = ["a warm and funny film", "awful", "\u6620\u753b \U0001f3ac"]


@pytest.fixture(scope="module")
def address(tiny_onnx: Path) -> Iterator[str]:
    options = ("--workers", "1", "--log-format", "none")
    with serving("-m", "serve", f"films={tiny_onnx}", "--port", "0", *options) as (_, url):
        yield url


def run(script: str, *arguments: str) -> Any:
    """What a script prints as JSON in a process of its own: tritonclient's gevent stays out of this one."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=4 * WAIT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

client, texts, answers = triton.InferenceServerClient(sys.argv[1]), json.loads(sys.argv[2]), {}

def tensor(name, values, binary=True, shape=None):
    array = np.array([value.encode() for value in values], dtype=np.object_).reshape(shape or [len(values)])
    made = triton.InferInput(name, list(array.shape), "BYTES")
    made.set_data_from_numpy(array, binary_data=binary)
    return made

def told(result):
    label, score = result.as_numpy("label"), result.as_numpy("score")
    assert score.dtype == np.float32 and label.shape == score.shape, (score.dtype, label.shape)
    names = [[name.decode() if isinstance(name, bytes) else name for name in row] for row in label.tolist()]
    return [dict(zip(row, values)) for row, values in zip(names, score.tolist())]

outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in ("label", "score")]
answers["binary"] = told(client.infer("films", [tensor("text", texts)]))
answers["column"] = told(client.infer("films", [tensor("text", texts, shape=[len(texts), 1])]))
answers["json"] = told(client.infer("films", [tensor("text", texts, binary=False)], outputs=outputs))
answers["mixed"] = told(client.infer("films", [tensor("text", texts)], outputs=[
    triton.InferRequestedOutput("label"), triton.InferRequestedOutput("score", binary_data=False)]))
for encoding in ("gzip", "deflate"):
    answers[encoding] = told(client.infer(
        "films", [tensor("text", texts)], request_compression_algorithm=encoding,
        response_compression_algorithm=encoding, model_version="1", request_id="r-1", timeout=5_000_000))
answers["pairs"] = told(client.infer("films", [tensor("text", texts), tensor("text_pair", texts[::-1])]))
answers["classes"] = {}
for count in (1, 2, 9):
    for binary in (True, False):
        result = client.infer("films", [tensor("text", texts)], outputs=[
            triton.InferRequestedOutput("score", class_count=count, binary_data=binary)])
        rows = result.as_numpy("score").tolist()
        answers["classes"][f"{count} {binary}"] = [
            [cell.decode() if isinstance(cell, bytes) else cell for cell in row] for row in rows]
answers["about"] = {
    "live": client.is_server_live(), "ready": client.is_server_ready(), "server": client.get_server_metadata(),
    "model": [client.is_model_ready("films", version) for version in ("", "1", "2")],
    "metadata": [client.get_model_metadata("films", version) for version in ("", "1")],
    "config": [client.get_model_config("films", version) for version in ("", "1")],
    "index": client.get_model_repository_index(),
    "statistics": [client.get_inference_statistics(*names) for names in ((), ("films",), ("films", "1"))],
}
refused = []
for ask in (
    lambda: client.infer("films", [tensor("text", texts)], model_version="2"),
    lambda: client.infer("films", [tensor("text", texts)], outputs=[
        triton.InferRequestedOutput("label", class_count=1)]),
    lambda: client.infer("films", [tensor("text", texts)], sequence_id=5, sequence_start=True),
    lambda: client.infer("films", [tensor("text", texts)], priority=1),
    lambda: client.infer("films", [tensor("text", [""])]),
    lambda: client.get_model_config("none"),
):
    try:
        ask()
    except InferenceServerException as error:
        refused.append([error.status(), error.message()])
answers["refused"] = refused
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(address: str) -> Any:
    return run(TRITON, address.removeprefix("http://"), json.dumps(TEXTS))


def predicted(address: str, inputs: Any) -> list[dict[str, float]]:
    """The answers of /predict, scores by label; the order of an answer's labels is its own."""
    ranked = json.loads(ask(address, "/predict", {"inputs": inputs})[1])
    return [{entry["label"]: pytest.approx(entry["score"], abs=1e-6) for entry in row} for row in ranked]


def test_tritonclient_gets_the_answers_of_predict(address: str, answers: Any) -> None:
    expected = predicted(address, [[text] for text in TEXTS])
    for way in ("binary", "column", "json", "mixed", "gzip", "deflate"):
        assert answers[way] == expected, way
        assert [list(row) for row in answers[way]] == [list(row) for row in expected], "best first"
    assert answers["pairs"] == predicted(address, [list(pair) for pair in zip(TEXTS, TEXTS[::-1], strict=True)])


def test_tritonclient_s_class_count_is_honoured(address: str, answers: Any) -> None:
    for way, rows in answers["classes"].items():
        count = min(2, int(way.split()[0]))
        for row, expected in zip(rows, predicted(address, [[text] for text in TEXTS]), strict=True):
            assert len(row) == count, way
            for cell, label in zip(row, expected, strict=False):
                score, number, name = cell.split(":")
                assert (name, ("negative", "positive")[int(number)]) == (label, label)
                assert float(score) == expected[label]


def test_tritonclient_is_told_about_the_models(answers: Any, tiny_onnx: Path) -> None:
    about = answers["about"]
    assert (about["live"], about["ready"], about["model"]) == (True, True, [True, True, False])
    assert "binary_tensor_data" in about["server"]["extensions"]
    assert about["metadata"][0] == about["metadata"][1]
    assert about["metadata"][0]["versions"] == ["1"]
    config = about["config"][0]
    assert config == about["config"][1]
    assert [(entry["name"], entry["data_type"], entry["dims"]) for entry in config["output"]] == [
        ("label", "TYPE_STRING", [-1, 2]), ("score", "TYPE_FP32", [-1, 2]),
    ]  # fmt: skip
    assert [entry["optional"] for entry in config["input"]] == [False, True]
    assert about["index"] == [{"name": "films", "version": "1", "state": "READY", "reason": ""}]
    for shown in about["statistics"]:
        (model,) = shown["model_stats"]
        assert (model["name"], model["version"]) == ("films", "1")
        assert model["inference_count"] == 13 * len(TEXTS)
        assert 0 < model["execution_count"] <= model["inference_count"]
        assert model["inference_stats"]["success"]["count"] == 13
        assert model["inference_stats"]["success"]["ns"] >= model["inference_stats"]["compute_infer"]["ns"] > 0
    assert open_bundle(tiny_onnx).digest.startswith(answers["refused"][0][1].rpartition(" ")[2])


def test_what_tritonclient_cannot_have_is_refused_with_words(answers: Any) -> None:
    for (status, message), (expected, words) in zip(
        answers["refused"],
        [
            ("404", "no version '2' of films"), ("422", "`classification` of `label`"), ("422", "`sequence_id`"),
            ("422", "`priority`"), ("400", "cannot be empty"), ("404", "no model 'none'"),
        ], strict=True,
    ):  # fmt: skip
        assert status == expected
        assert words in message


GENERATED = """
import importlib, json, sys
sys.path.insert(0, sys.argv[2])
from generated import Client
from generated.api.default import predict_predict_post as predict
from generated.models import PredictRequest

client = Client(base_url=sys.argv[1])
answer = predict.sync_detailed(client=client, body=PredictRequest(inputs="a warm and funny film"))
print(json.dumps([answer.status_code.value, [[entry.label, entry.score] for entry in answer.parsed]]))
"""


def test_openapi_python_client_generates_a_client_that_works(address: str, tmp_path: Path) -> None:
    out, config = tmp_path / "generated", tmp_path / "config.yml"
    config.write_text("package_name_override: generated\nproject_name_override: generated\npost_hooks: []\n")
    command = ("openapi_python_client", "generate", "--url", f"{address}/openapi.json", "--fail-on-warning")
    done = subprocess.run(
        [sys.executable, "-m", *command, "--config", str(config), "--output-path", str(out)],
        capture_output=True, text=True, timeout=4 * WAIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    status, ranked = run(GENERATED, address, str(out))
    assert status == 200
    (expected,) = predicted(address, [["a warm and funny film"]])
    assert [label for label, _ in ranked] == list(expected)
    assert dict(ranked) == expected


def test_the_example_of_tritonclient_runs(address: str) -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    (source,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "tritonclient" in block]
    source = source.replace("localhost:8080", address.removeprefix("http://")).replace('"int8"', '"films"')
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=4 * WAIT)
    (expected,) = predicted(address, [["a warm and funny film"]])
    assert all(label in done.stdout for label in expected), done.stderr
