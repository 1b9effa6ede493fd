"""Plain text of any form packed into rows of token ids: no token is lost, added or padded."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.data import BAD, FILLER, GOOD, rows
from tests.support.models import word_pieces
from toolkit.data import corpus as corpus_module
from toolkit.data.corpus import PackedCorpus, pack_corpus
from toolkit.errors import ToolkitError

CLS, SEP = 2, 3


@pytest.fixture
def tokenizer_file(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def bodies(packed: PackedCorpus) -> list[int]:
    """All rows' tokens between [CLS] and [SEP], which stand where they should."""
    batch = packed.batch(range(len(packed)))
    ids = batch["input_ids"]
    assert ids.shape == (len(packed), packed.length)
    assert (ids[:, 0] == CLS).all()
    assert (ids[:, -1] == SEP).all()
    assert batch["attention_mask"].all()
    assert not batch["token_type_ids"].any()
    return [int(i) for i in ids[:, 1:-1].ravel()]


@given(st.lists(st.lists(st.sampled_from(["film", "a", "bad", "zzz"]), max_size=12), max_size=20), st.integers(4, 12))
@settings(max_examples=25)
def test_no_token_is_lost_added_or_padded(documents: list[list[str]], length: int) -> None:
    tokenizer = word_pieces([*GOOD, *BAD, *FILLER])
    expected = [
        i for words in documents if words
        for i in (*tokenizer.encode(" ".join(words), add_special_tokens=False).ids, SEP)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        tokenizer.save(str(path / "tokenizer.json"))
        (path / "text.txt").write_text("".join(f"{' '.join(words)}\n" for words in documents))
        if not expected:
            with pytest.raises(ToolkitError, match="holds no text"):
                pack_corpus([str(path / "text.txt")], path / "tokenizer.json", length=length, stem=path / "out")
            assert sorted(file.name for file in path.iterdir()) == ["text.txt", "tokenizer.json"]
            return
        ids = bodies(pack_corpus([str(path / "text.txt")], path / "tokenizer.json", length=length, stem=path / "out"))
    assert ids[: len(expected)] == expected
    filled = ids[len(expected) :]  # only the last row is filled up, from the start
    assert len(filled) < length - 2
    assert filled == (expected * length)[: len(filled)]


def test_files_of_every_form_give_the_same_tokens(tokenizer_file: Path, tmp_path: Path) -> None:
    lines = [text for text, _ in rows(60, seed=3)]
    (tmp_path / "whole.txt").write_text("\n".join(lines))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines[:20]).encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join(lines[20:]).encode()))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.txt").write_text("\n".join(lines) + "\n")
    forms = (["whole.txt"], ["a.txt", "b.txt.gz"], ["[ab].txt*"], ["set"])
    packed = [
        pack_corpus([str(tmp_path / name) for name in names], tokenizer_file, length=16, stem=tmp_path / f"out{i}")
        for i, names in enumerate(forms)
    ]
    assert all(form.record["sha256"] == packed[0].record["sha256"] for form in packed)
    assert {form.record["documents"] for form in packed} == {60}
    few = pack_corpus([str(tmp_path / "whole.txt")], tokenizer_file, length=16, stem=tmp_path / "few", max_rows=3)
    assert len(few) == 3
    assert bodies(few) == bodies(packed[0])[: 3 * 14]


def test_a_line_of_any_length_is_read_in_pieces(
    tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "LONGEST_PIECE", 50)
    (tmp_path / "long.txt").write_text("film " * 1000)
    packed = pack_corpus([str(tmp_path / "long.txt")], tokenizer_file, length=16, stem=tmp_path / "out")
    assert packed.record["documents"] == 100
    film = Tokenizer.from_file(str(tokenizer_file)).token_to_id("film")
    assert bodies(packed).count(film) >= 1000


def test_tokens_are_kept_for_the_same_text_only(
    tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "text.txt", tmp_path / "out"
    path.write_text("a fine film\n")
    first = pack_corpus([str(path)], tokenizer_file, length=8, stem=out)
    with monkeypatch.context() as patch:
        patch.delattr(corpus_module, "_tokenize")  # the ids on disk are reused
        assert pack_corpus([str(path)], tokenizer_file, length=12, stem=out).record == first.record
    path.write_text("a dull film\n")
    changed = pack_corpus([str(path)], tokenizer_file, length=8, stem=out)
    assert changed.record["sha256"] != first.record["sha256"]
    damaged = bytearray((tmp_path / "out.tokens").read_bytes())
    damaged[0] ^= 1
    (tmp_path / "out.tokens").write_bytes(damaged)
    assert pack_corpus([str(path)], tokenizer_file, length=8, stem=out).record == changed.record
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "out.tokens", "out.tokens.json", "text.txt", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("gone.txt", None, "no such file"),
        ("text.txt", b"a film\nna\xefve\n", "is not UTF-8, soon after line"),
        ("text.txt.gz", b"no gzip at all", "cannot be read"),
        ("cut.txt.gz", gzip.compress(b"a fine film\n" * 99, mtime=0)[:-12], "cannot be read"),
        ("table.csv", b"text\na film\n", "table.csv is no text file"),
        ("text.txt", b"\n  \n", "holds no text"),
    ],
)
def test_text_that_cannot_be_read(
    name: str, content: bytes | None, fault: str, tokenizer_file: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ToolkitError, match=fault):
        pack_corpus([str(tmp_path / name)], tokenizer_file, length=8, stem=tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_memory_does_not_hold_the_corpus(tokenizer_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a fine film\n" * 5000)
    packed = pack_corpus([str(tmp_path / "text.txt")], tokenizer_file, length=16, stem=tmp_path / "out")
    assert isinstance(packed.tokens, np.memmap)
    assert packed.lengths.strides == (0,)  # one number, however many rows


def test_the_ids_of_a_killed_run_are_removed(tokenizer_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a fine film\n")
    for name in (".out[1].tokens.abcdefgh.partial", ".other.tokens.abcdefgh.partial"):
        (tmp_path / name).write_bytes(b"half")
    pack_corpus([str(tmp_path / "text.txt")], tokenizer_file, length=8, stem=tmp_path / "out[1]")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == [".other.tokens.abcdefgh.partial"]
