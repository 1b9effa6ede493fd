"""Fixtures of the server's tests: clients of a small model, and bundles whose answers are arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.app import create_app
from serve.engine.limits import Limits
from tests.support.arithmetic_bundles import SUM, TWICE, save_arithmetic, slow_graph
from toolkit.inference.predictor import Predictor, open_predictor


@pytest.fixture(scope="module")
def client(tiny_onnx: Path) -> Iterator[TestClient]:
    limits = Limits(workers=1, max_client_batch_size=4, payload_limit=5000)
    with TestClient(create_app(tiny_onnx, limits=limits), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def predictor(tiny_onnx: Path) -> Predictor:
    return open_predictor(tiny_onnx, threads=1)


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A bundle whose every batch takes about half a second."""
    graph = slow_graph(500)
    return save_arithmetic(tmp_path_factory.mktemp("slow") / "bundle", tokenizer, graph)


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("arithmetic")
    return {name: save_arithmetic(folder / name, tokenizer, graph) for name, graph in (("sum", SUM), ("twice", TWICE))}
