"""The application on Ray Serve: its options, and one request through a Ray of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.__main__ import listen
from tests.support.paths import ROOT
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor

PROGRAM = """
import json, sys, threading
from urllib.request import Request, urlopen
import ray
from ray import serve
from serve.ray_app import build

bundle, port, *bodies = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
serve.run(build({"bundle": bundle, "log_format": "none", "max_replicas": "1"}))

def ask(path, body=None):
    asked = Request(f"http://127.0.0.1:{port}{path}", body and body.encode(), {"content-type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        return answer.read().decode()

print("answers", json.dumps([[json.loads(ask("/predict", body)) for body in bodies], json.loads(ask("/info"))]))
serve.lifecycle()
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_answers_as_the_predictor_does(tiny_onnx: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    texts = ["good film", "awful plot"]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tiny_onnx), port,
         *(json.dumps({"inputs": text}) for text in texts)],
        capture_output=True, text=True, cwd=ROOT, timeout=600, env=os.environ | quiet | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = next(line for line in done.stdout.splitlines() if line.startswith("answers "))
    answers, info = json.loads(shown.removeprefix("answers "))
    expected = open_predictor(tiny_onnx, threads=1).predict(texts)
    labels = ("negative", "positive")
    for answer, scores in zip(answers, expected, strict=True):
        best = int(scores.argmax())
        assert answer[0] == {"label": labels[best], "score": pytest.approx(scores[best], abs=1e-6)}
    assert info["tokenization_workers"] == 1
    assert info["labels"] == list(labels)


@pytest.fixture(scope="module")
def build() -> Callable[[dict[str, str]], Any]:
    with warnings.catch_warnings():  # Ray's own, while it is imported
        warnings.filterwarnings("ignore", message="Using extra keyword arguments on `Field`")
        from serve.ray_app import build

        return build


def deployed(application: Any) -> Any:
    return application._bound_deployment


def test_options_reach_the_deployment(build: Callable[[dict[str, str]], Any]) -> None:
    options = {
        "bundle": "x",
        "workers": "2",
        "max_concurrent_requests": "64",
        "max_replicas": "7",
        "target_requests": "5",
    }
    deployment = deployed(build(options))
    assert deployment.ray_actor_options["num_cpus"] == 2
    assert deployment.max_ongoing_requests == 64
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 7, 5)
    assert deployed(build({"bundle": "x"})).ray_actor_options["num_cpus"] == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"bundle": "x", "port": "80"}, "port: no such option"),
        ({"bundle": "x", "replicas": "2"}, "replicas: no such option"),
        ({"bundle": "x", "timeout_ms": "soon"}, "timeout_ms=soon"),
        ({"bundle": "x", "log_format": "xml"}, "--log-format xml"),
        ({"bundle": "x", "max_replicas": "0"}, "max_replicas 0: expected min_replicas, 1, or more"),
        ({"bundle": "x", "models_root": "."}, "models_root: no such option"),
        ({}, "bundle=DIR"),
    ],
)
def test_options_that_cannot_work_are_named(
    build: Callable[[dict[str, str]], Any], given: dict[str, str], problem: str
) -> None:
    with pytest.raises(ToolkitError) as caught:
        build(given)
    assert problem in str(caught.value)
