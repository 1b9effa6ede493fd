"""Models that fail, for the tests of endpoints."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import LOG, SMALL_TABLE, save_arithmetic
from toolkit.bundle.format import open_bundle
from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Predictor]:
    """Regression models that give NaN, or fail, for some inputs."""
    folder = tmp_path_factory.mktemp("failing")
    predictors = {}
    for name, graph in {"log": LOG, "small_table": SMALL_TABLE}.items():
        bundle = open_bundle(save_arithmetic(folder / name, tokenizer, graph))
        predictors[name] = Predictor(bundle, OnnxRuntime(bundle.weights, threads=1))
    return predictors
