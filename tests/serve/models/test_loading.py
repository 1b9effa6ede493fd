"""Names of models, and bundles that cannot be served."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.app import create_app
from serve.engine.limits import Limits
from serve.models.loading import load_predictor, parse_model_names
from tests.support.arithmetic_bundles import LOG, SMALL_TABLE, rewritten, save_arithmetic
from tests.support.hostile_graphs import ENDLESS, SIXTEEN_GB
from tests.support.responses import error_of
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor


def test_what_is_served_is_what_was_verified_whatever_becomes_of_the_directory(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_onnx, tmp_path / "bundle")
    bodies: list[Any] = [
        {"inputs": "good film " * 40, "truncation_direction": direction, "raw_scores": True}
        for direction in ("left", "right")
    ]
    with TestClient(create_app(tiny_onnx, limits=Limits(workers=1))) as client:
        expected = [client.post("/predict", json=body).json() for body in bodies]
    predictor = load_predictor(folder)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(tokenizer.replace(b'"good"', b'"evil"'))
    with TestClient(create_app(predictor, limits=Limits(workers=1))) as client:
        assert client.post("/predict", json=bodies[0]).json() == expected[0]
        shutil.rmtree(folder)
        assert [client.post("/predict", json=body).json() for body in bodies] == expected


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


def test_tokenizers_start_no_threads_of_their_own(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for before, after in ((None, "false"), ("true", "true")):
        if before is None:
            monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
        else:
            monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
        load_predictor(tiny_onnx)
        assert os.environ["TOKENIZERS_PARALLELISM"] == after


ONE = Limits(workers=1)


def test_names_come_from_directories_or_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_model_names(["runs/int8", "b=x/y=z", "runs/fp32/"]) == {
        "int8": "runs/int8",
        "b": "x/y=z",
        "fp32": "runs/fp32/",
    }
    (tmp_path / "a=b c").mkdir()
    assert parse_model_names([str(tmp_path / "a=b c")]) == {"a-b-c": str(tmp_path / "a=b c")}
    monkeypatch.chdir(tmp_path / "a=b c")
    assert parse_model_names(["."]) == {"a-b-c": "."}
    assert parse_model_names(["/"]) == {"model": "/"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["a/int8", "b/int8"], "(?s)a/int8 and b/int8 would both be int8.*int8-2=b/int8"),
        (["x=a", "x=b"], "would both be x"),
        (["/x=a"], "'/x' is no name"),
        ([".x=a"], "is no name"),
        (["=a"], "'' is no name"),
        ([f"{'x' * 65}=a"], "is no name"),
        ([], "no bundle to serve"),
    ],
)
def test_names_that_will_not_do(given: list[str], problem: str) -> None:
    with pytest.raises(ToolkitError, match=problem):
        parse_model_names(given)


def test_one_row_of_nan_fails_its_own_requests_with_424(tiny_onnx: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A real model with NaN in the embedding of one word, as a broken disk or training run leaves it."""

    def spoil(weights: np.ndarray) -> np.ndarray:
        spoilt = weights.copy()
        spoilt[tokenizer.token_to_id("film")] = np.nan
        spoilt[tokenizer.token_to_id("plot")] = np.inf
        return spoilt

    broken = rewritten(tiny_onnx, tmp_path / "broken", word_embeddings__weight=spoil)
    with TestClient(create_app(broken, limits=ONE)) as client:
        for bad in ("a good film", "a good plot"):
            response = client.post("/predict", json={"inputs": bad})
            assert error_of(response)[:2] == (424, "Backend")
            assert error_of(client.post("/predict", json={"inputs": [["good"], [bad]]}))[:2] == (424, "Backend")
            assert client.post("/predict", json={"inputs": "a good story"}).status_code == 200
    whole = rewritten(tiny_onnx, tmp_path / "whole", classifier__bias=lambda weights: weights * np.nan)
    with pytest.raises(ToolkitError, match="not finite"):
        load_predictor(whole)


def test_a_bundle_that_fails_at_its_full_length_is_not_served(tiny_onnx: Path, tmp_path: Path) -> None:
    """Its table of positions is shorter than its max_length: short texts would work, long ones fail one day."""
    short = rewritten(tiny_onnx, tmp_path / "short", position_embeddings__weight=lambda weights: weights[:16])
    with pytest.raises(ToolkitError, match="does not run"):
        load_predictor(short)


def test_a_loading_thread_does_not_keep_the_process() -> None:
    """The thread waits for ever; the process ends all the same."""
    program = (
        "import asyncio, threading\nfrom serve.models.loading import in_daemon_thread\n"
        "async def main():\n"
        "    assert await in_daemon_thread(lambda a, b: a + b, 1, b=2) == 3\n"
        "    task = asyncio.create_task(in_daemon_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0)\n    task.cancel()\nasyncio.run(main())"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("graph", "problem"), [(SIXTEEN_GB, "the model does not run"), (ENDLESS, "a node holds a graph, as loops")]
)
def test_a_graph_that_takes_too_much_is_refused(graph: str, problem: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    bundle = save_arithmetic(tmp_path / "b", tokenizer, graph)
    with pytest.raises(ToolkitError, match=problem):
        load_predictor(bundle)
    if graph is ENDLESS:  # `predict` tries no text beforehand
        with pytest.raises(ToolkitError, match=problem):
            open_predictor(bundle)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_tokenizer_that_grows_its_input_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    source = open_bundle(tiny_onnx)
    manifest = {key: value for key, value in source.manifest.items() if key not in ("files", "digest")}
    with write_bundle(tmp_path / "b", manifest) as staging:
        for name in source.manifest["files"]:
            shutil.copy(tiny_onnx / name, staging)
        stored = json.loads((staging / "tokenizer.json").read_text())
        stored["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 50_000_000}
        (staging / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ToolkitError, match="its normalizer makes a text more than 64 times longer"):
        load_predictor(tmp_path / "b")
