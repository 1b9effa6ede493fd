"""An encoder and a teacher that was fine-tuned from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.config import FinetuneConfig
from toolkit.training.finetune import run_finetune


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    """A plain Hugging Face directory of an untrained encoder."""
    return save_model(tiny_bert(initializer_range=0.05), tmp_path_factory.mktemp("encoder") / "plain")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: Path, data_dir: Path) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    run_finetune(FinetuneConfig(str(encoder), "auto", str(out), data=str(data_dir), epochs=6, lr=5e-3))
    return out
