"""Token ids as Hugging Face's tokenizer gives them, truncation on both sides, batches that lose no row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support.data import rows
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError

TEXTS = [text for text, _ in rows(20, seed=11)]
CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small tokenizer with padding and truncation to 8 baked in, as MiniLM's has them for 128."""
    path = tmp_path_factory.mktemp("tokenizer")
    baked = Tokenizer.from_str(tokenizer.to_str())
    baked.enable_truncation(8)
    baked.enable_padding(length=8)
    baked.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    return path


def test_baked_in_truncation_and_padding_are_gone(folder: Path, tokenizer: Tokenizer) -> None:
    stored = json.loads((folder / "tokenizer.json").read_text())
    assert stored["truncation"]["max_length"] == stored["padding"]["strategy"]["Fixed"] == 8  # what must be undone
    encoded = TextEncoder(folder, 64).encode(["good", "good " * 30])
    assert encoded.lengths.tolist() == [3, 32]
    assert not encoded.truncated.any()


def test_ids_are_the_tokenizer_s_own(folder: Path, tokenizer: Tokenizer) -> None:
    single = TextEncoder(folder, 64).encode(TEXTS)
    assert [ids.tolist() for ids in single.ids] == [tokenizer.encode(text).ids for text in TEXTS]
    paired = TextEncoder(folder, 64).encode(TEXTS[:10], TEXTS[10:])
    expected = [tokenizer.encode(a, b) for a, b in zip(TEXTS[:10], TEXTS[10:], strict=True)]
    assert [ids.tolist() for ids in paired.ids] == [encoding.ids for encoding in expected]
    assert [ids.tolist() for ids in paired.type_ids] == [encoding.type_ids for encoding in expected]


def test_truncation_keeps_the_start_or_the_end(folder: Path) -> None:
    text = "good bad great awful fine"
    whole = TextEncoder(folder, 64).encode([text])
    body = whole.ids[0][1:-1].tolist()
    encoder = TextEncoder(folder, 5)
    right, left = encoder.encode([text]), encoder.encode([text], direction="left")
    assert right.ids[0].tolist() == [CLS, *body[:3], SEP]
    assert left.ids[0].tolist() == [CLS, *body[-3:], SEP]
    assert (right.truncated.tolist(), left.truncated.tolist(), whole.truncated.tolist()) == ([True], [True], [False])
    assert encoder.encode([text]).ids[0].tolist() == [CLS, *body[:3], SEP]  # "left" in between changed nothing


def test_exactly_full_is_not_truncated(folder: Path) -> None:
    text = "good bad great"
    n = len(TextEncoder(folder, 64).encode([text]).ids[0])
    assert not TextEncoder(folder, n).encode([text]).truncated[0]
    assert TextEncoder(folder, n - 1).encode([text]).truncated[0]


def test_the_longer_of_a_pair_is_cut_first(folder: Path) -> None:
    encoded = TextEncoder(folder, 10).encode(["good bad"], ["film " * 20])
    assert encoded.lengths.tolist() == [10]
    first, second = encoded.ids[0][1:3].tolist(), encoded.ids[0][4:-1].tolist()
    assert first == TextEncoder(folder, 64).encode(["good bad"]).ids[0][1:-1].tolist()
    assert len(second) == 5
    assert encoded.type_ids[0].tolist() == [0] * 4 + [1] * 6
    assert encoded.truncated.tolist() == [True]


def test_a_batch_pads_to_its_longest_row(folder: Path) -> None:
    encoded = TextEncoder(folder, 64).encode(["good", "good bad film", "a film"])
    batch = encoded.batch([1, 0])
    n, m = len(encoded.ids[1]), len(encoded.ids[0])
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ((2, n), np.dtype(np.int64))
    )
    assert batch["input_ids"][0].tolist() == encoded.ids[1].tolist()
    assert batch["input_ids"][1].tolist() == encoded.ids[0].tolist() + [0] * (n - m)
    assert batch["attention_mask"].tolist() == [[1] * n, [1] * m + [0] * (n - m)]
    assert encoded.batch([0], length=16)["attention_mask"].sum() == m


def test_the_pad_id_is_the_model_s(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"pad_token_id": 1}))
    encoded = TextEncoder(tmp_path, 64).encode(["good", "good bad film"])
    assert encoded.batch([0, 1])["input_ids"][0, -1] == 1


def test_pairs_of_unequal_number_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        TextEncoder(folder, 64).encode(["a", "b"], ["c"])


def test_half_a_surrogate_pair_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(ToolkitError, match="not text that UTF-8 can hold"):
        TextEncoder(folder, 64).encode(["fine", json.loads('"\\ud83d"')])


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": "1.0", "model": {"type": "WordPi', "\0\1\2"])
def test_a_broken_tokenizer_is_named(folder: Path, tmp_path: Path, content: str | None) -> None:
    shutil.copy(folder / "config.json", tmp_path)
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ToolkitError, match=r"tokenizer\.json is not a tokenizer that can be read") as caught:
        TextEncoder(tmp_path, 64)
    assert "save_pretrained" in caught.value.fix


@pytest.mark.parametrize("content", [None, "", "[]", '{"pad_token_id": "x"}'])
def test_a_broken_configuration_is_named(folder: Path, tmp_path: Path, content: str | None) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ToolkitError, match=r"config\.json is not a model's configuration"):
        TextEncoder(tmp_path, 64)


def test_tokens_show_the_pieces(folder: Path) -> None:
    encoder = TextEncoder(folder, 64)
    assert encoder.tokens(encoder.encode(["good film"]).ids[0]) == ["[CLS]", "good", "film", "[SEP]"]
