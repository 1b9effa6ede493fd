"""Every program and command on a card runs in the bundle's folder, and gives the bundle's answer."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from serve.app import create_app
from serve.engine.limits import Limits
from toolkit.bundle.card_usage import PAIR, TEXT, usage
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.bundle.manifest import CARD
from toolkit.cli.main import app
from toolkit.inference.predictor import open_predictor


def programs(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    return [
        shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]


def outputs(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the programs of a card print, run in its folder."""
    printed: list[Any] = []
    monkeypatch.chdir(folder)
    for program in programs(text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(program, {"print": printed.append})
    return printed


def test_a_pytorch_bundle(tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (tiny_teacher / CARD).read_text()
    predictor = open_predictor(tiny_teacher)
    logits = predictor.logits(predictor.encoder.encode([TEXT]))
    (answer,), by_optimum = outputs(text, tiny_teacher, monkeypatch)
    scores = predictor.scores(logits)[0]
    assert answer["label"] == predictor.task.labels[int(scores.argmax())]
    assert answer["score"] == pytest.approx(scores.max(), abs=1e-5)
    np.testing.assert_allclose(by_optimum.detach().numpy(), logits, atol=1e-4)
    assert ["toolkit", "serve", "../int8"] in commands(text), "what is served is its export"
    for command in commands(text)[:2]:
        assert CliRunner().invoke(app, command[1:]).exit_code == 0


def test_an_onnx_bundle(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (tiny_onnx / CARD).read_text()
    predictor = open_predictor(tiny_onnx, threads=1)
    logits = predictor.logits(predictor.encoder.encode([TEXT]))
    by_onnxruntime, by_optimum = outputs(text, tiny_onnx, monkeypatch)
    np.testing.assert_allclose(by_onnxruntime, logits, atol=1e-5)
    np.testing.assert_allclose(by_optimum.numpy(), logits, atol=1e-5)
    inspect, predict, serve, curl = commands(text)
    for command in (inspect, predict):
        assert CliRunner().invoke(app, command[1:]).exit_code == 0
    assert serve == ["toolkit", "serve", "."]
    with TestClient(create_app(Path(), limits=Limits(workers=1))) as client:
        path = curl[2].removeprefix("localhost:8080")
        answer = client.post(path, content=curl[curl.index("-d") + 1], headers={"content-type": "application/json"})
    assert answer.json()[0]["score"] == pytest.approx(predictor.scores(logits).max(), abs=1e-4)


def test_a_bundle_laid_out_for_triton(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = open_bundle(tiny_onnx).manifest
    manifest: Any = {key: value for key, value in stored.items() if key not in ("files", "digest")}
    with write_bundle(tmp_path / "triton", manifest) as staging:
        (staging / "1").mkdir()
        for name in stored["files"]:
            shutil.copy(tiny_onnx / name, staging / ("1/model.onnx" if name == "model.onnx" else name))
    text = (tmp_path / "triton" / CARD).read_text()
    (logits,) = outputs(text, tmp_path / "triton", monkeypatch)
    assert logits.shape == (1, 2)
    assert "tritonserver" in text


@pytest.mark.parametrize("kind", ["classification", "multi_label", "regression"])
def test_pairs_are_asked_for_with_their_second_text(kind: str, tmp_path: Path) -> None:
    task = {"name": "own", "kind": kind, "labels": ["a"], "metrics": ["accuracy"], "pair": True}
    manifest: Any = {"task": task, "max_length": 16, "precision": "fp32"}
    text = usage(manifest, tmp_path)
    assert all(PAIR in program and TEXT in program for program in programs(text))
    assert ("top_k=None" in text) == (kind == "multi_label")
    predict = next(command for command in commands(text) if command[1] == "predict")
    assert predict == ["toolkit", "predict", ".", TEXT, "--pair", PAIR]
    curl = commands(text)[-1]
    assert json.loads(curl[-1]) == {"inputs": [TEXT, PAIR]}


def test_a_general_student_is_opened_as_an_encoder(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest: Any = {"task": None, "max_length": 16, "precision": "fp32"}
    (shape,) = outputs(usage(manifest, tiny_student), tiny_student, monkeypatch)
    assert (shape[0], shape[2]) == (1, 24)
