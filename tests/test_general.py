"""General distillation: text of any form packed without loss, a student that the task stage takes, and what clashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import rows
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from toolkit.bundle import open_bundle
from toolkit.config import DistillConfig
from toolkit.corpus import Packed, pack
from toolkit.errors import ToolkitError
from toolkit.general import run_general

CLS, SEP = 2, 3


@pytest.fixture
def tokenizer_file(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    return save_model(tiny_bert(), tmp_path_factory.mktemp("encoder") / "plain")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"{text}\n" for text, _ in rows(200, seed=5)))
    return path


def general(encoder: Path, corpus: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "student": "2/16/32/4", "intermediate_epochs": 2, "intermediate_lr": 5e-3, "max_length": 32, "batch_size": 16,
    }  # fmt: skip
    settings |= {"corpus": (str(corpus),), **changes}
    run_general(DistillConfig(str(encoder), None, str(out), general=True, **settings))
    return open_bundle(out).manifest


def bodies(packed: Packed) -> np.ndarray:
    """All rows' tokens between [CLS] and [SEP], which are where they should be."""
    batch = packed.batch(range(len(packed)))
    assert batch["input_ids"].shape == (len(packed), packed.length)
    assert (batch["input_ids"][:, 0] == CLS).all()
    assert (batch["input_ids"][:, -1] == SEP).all()
    assert batch["attention_mask"].all()
    assert not batch["token_type_ids"].any()
    return batch["input_ids"][:, 1:-1].ravel()


@given(st.lists(st.lists(st.sampled_from(["film", "a", "bad", "zzz"]), max_size=12), max_size=20), st.integers(4, 12))
def test_no_token_is_lost_added_or_padded(documents: list[list[str]], length: int) -> None:
    import tempfile

    from tests.test_general import spelled_out  # the vocabulary without a fixture, for hypothesis

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tokenizer = spelled_out(path / "tokenizer.json")
        (path / "text.txt").write_text("".join(f"{' '.join(words)}\n" for words in documents))
        expected = [
            i for words in documents if words
            for i in (*tokenizer.encode(" ".join(words), add_special_tokens=False).ids, SEP)
        ]  # fmt: skip
        if not expected:
            with pytest.raises(ToolkitError, match="holds no text"):
                pack([str(path / "text.txt")], path / "tokenizer.json", length=length, stem=path / "out")
            return
        packed = pack([str(path / "text.txt")], path / "tokenizer.json", length=length, stem=path / "out")
        found = bodies(packed)
    assert found[: len(expected)].tolist() == expected
    filled = found[len(expected) :].tolist()  # only the last row is filled up, from the start
    assert len(filled) < length - 2
    assert filled == (expected * length)[: len(filled)]
