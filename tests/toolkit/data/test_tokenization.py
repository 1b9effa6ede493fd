"""Token ids as Hugging Face's tokenizer gives them, truncation on both sides, batches that lose no row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.data import rows
from toolkit.data import tokenization as text_module
from toolkit.data.batching import SORT_POOL, shuffled_batches, sorted_batches
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
    found = TextEncoder(folder, 64).encode(["good", "good " * 30])
    assert found.lengths.tolist() == [3, 32]
    assert not found.truncated.any()


def test_ids_are_the_tokenizer_s_own(folder: Path, tokenizer: Tokenizer) -> None:
    single = TextEncoder(folder, 64).encode(TEXTS)
    assert [ids.tolist() for ids in single.ids] == [tokenizer.encode(text).ids for text in TEXTS]
    paired = TextEncoder(folder, 64).encode(TEXTS[:10], TEXTS[10:])
    expected = [tokenizer.encode(a, b) for a, b in zip(TEXTS[:10], TEXTS[10:], strict=True)]
    assert [ids.tolist() for ids in paired.ids] == [one.ids for one in expected]
    assert [ids.tolist() for ids in paired.type_ids] == [one.type_ids for one in expected]


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
    found = TextEncoder(folder, 10).encode(["good bad"], ["film " * 20])
    assert found.lengths.tolist() == [10]
    first, second = found.ids[0][1:3].tolist(), found.ids[0][4:-1].tolist()
    assert first == TextEncoder(folder, 64).encode(["good bad"]).ids[0][1:-1].tolist()
    assert len(second) == 5
    assert found.type_ids[0].tolist() == [0] * 4 + [1] * 6
    assert found.truncated.tolist() == [True]


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


lengths_ = st.lists(st.integers(1, 128), max_size=400).map(lambda found: np.array(found, dtype=np.int64))


@given(lengths_, st.integers(1, 40))
def test_sorted_batches_hold_every_row_once_longest_first(lengths: np.ndarray, batch_size: int) -> None:
    batches = list(sorted_batches(lengths, batch_size))
    flat = np.concatenate([np.empty(0, dtype=np.int64), *batches])
    assert sorted(flat.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[flat]) <= 0).all()
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(lengths_, st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 50))
def test_shuffled_batches_hold_every_row_once(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    batches = list(shuffled_batches(lengths, batch_size, seed, epoch))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    again = shuffled_batches(lengths, batch_size, seed, epoch)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def test_many_rows_are_dealt_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "SHUFFLED_TOGETHER", 3)
    lengths = np.random.default_rng(0).integers(3, 60, 100)
    batches = [batch.tolist() for batch in shuffled_batches(lengths, 8, seed=1, epoch=0)]
    assert sorted(row for batch in batches for row in batch) == list(range(100))
    assert [len(batch) for batch in batches].count(8) == 12
    runs = [{row // 24 for row in batch} for batch in batches]
    assert all(len(run) == 1 for run in runs)  # a batch comes from one run of three batches
    orders = {
        tuple(int(batch[0]) // 24 for batch in shuffled_batches(lengths, 8, seed=1, epoch=epoch)) for epoch in range(5)
    }
    assert len(orders) > 2  # and the runs come in random order


def test_another_epoch_or_seed_shuffles_anew() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    order = {
        key: tuple(row for batch in shuffled_batches(lengths, 16, *key) for row in batch.tolist())
        for key in [(1, 0), (1, 1), (2, 0)]
    }
    assert len(set(order.values())) == 3


def test_like_lengths_together_waste_less_padding_and_still_mix() -> None:
    lengths = np.random.default_rng(0).integers(3, 129, 4000)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)

    plain = np.split(np.random.default_rng(1).permutation(4000), 125)
    bucketed = list(shuffled_batches(lengths, 32, seed=1, epoch=0))
    waste = padded(bucketed) / lengths.sum() - 1
    assert waste < 0.05
    assert padded(plain) / lengths.sum() - 1 > 10 * waste
    means = [lengths[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # long and short batches come in no order
    assert len({int(row) // (32 * SORT_POOL) for row in bucketed[0]}) > 1  # a batch draws from the whole file
