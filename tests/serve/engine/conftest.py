"""Bundles whose model is arithmetic on token ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.support.arithmetic_bundles import LOG, SMALL_TABLE, SUM, save_arithmetic


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("arithmetic")
    graphs = {"sum": SUM, "log": LOG, "small_table": SMALL_TABLE}
    return {name: save_arithmetic(folder / name, tokenizer, graph) for name, graph in graphs.items()}
