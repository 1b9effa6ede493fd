"""A trimmed vocabulary: which pieces stay, that ids agree everywhere, and that no known word becomes unknown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.data import BAD, FILLER, GOOD
from tests.support.tokenizers import byte_pairs, sentence_pieces
from toolkit.data.tokenization import TextEncoder
from toolkit.data.vocabulary import rank_pieces, select_pieces, trim_files
from toolkit.errors import ToolkitError

TEXTS = ["a good film", "the plot was dull"]


@pytest.fixture(scope="module")
def trimmed(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_student, tmp_path_factory.mktemp("trimmed") / "model")
    trim_files(select_pieces(tiny_student, TEXTS), folder)
    return folder


def pieces(folder: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)


def test_what_stays(tiny_student: Path, trimmed: Path) -> None:
    before, after = pieces(tiny_student), pieces(trimmed)
    words = {"a", "good", "film", "the", "plot", "was", "dull"}
    assert {piece for piece in after if len(piece.removeprefix("##")) > 1 and piece[0] != "["} == words - {"a"}
    assert {piece for piece in before if len(piece.removeprefix("##")) == 1 or piece[0] == "["} <= set(after)
    assert sorted(after.values()) == list(range(len(after)))
    assert sorted(after, key=after.__getitem__) == [p for p in sorted(before, key=before.__getitem__) if p in after]
    assert json.loads((trimmed / "config.json").read_text())["vocab_size"] == len(after)


def test_the_most_frequent_stay(tiny_student: Path) -> None:
    texts = ["good good good film", "dull film", "plot"]
    fewest = len(select_pieces(tiny_student, []).ids)
    names = {i: piece for piece, i in pieces(tiny_student).items()}
    whole = set(select_pieces(tiny_student, texts).ids.tolist())
    for most, left in (
        (fewest, set()),
        (fewest + 2, {"good", "film"}),
        (fewest + 99, {"good", "film", "dull", "plot"}),
    ):
        trimmed = select_pieces(tiny_student, texts, most=most)
        assert {names[i] for i in trimmed.ids if len(names[i].removeprefix("##")) > 1 and names[i][0] != "["} == left
        assert set(trimmed.ids.tolist()) <= whole
    with pytest.raises(ToolkitError, match=f"expected: at least {fewest}"):
        select_pieces(tiny_student, texts, most=fewest - 1)


def test_how_few_pieces_leave_most_of_a_text_whole(tiny_student: Path) -> None:
    # of 21 pieces 12 are [CLS] and [SEP], 6 good and 3 film
    ranked = rank_pieces(tiny_student, ["good", "good film"] * 3, [])
    assert ranked.shares.tolist() == pytest.approx([6 / 21, 3 / 21])
    fewest = len(ranked.always)
    counts = {lost: ranked.fewest(lost) - fewest for lost in (0.0, 0.14, 0.15, 0.42, 0.43)}
    assert counts == {0.0: 2, 0.14: 2, 0.15: 1, 0.42: 1, 0.43: 0}
    assert len(ranked.keep(ranked.fewest(0.15)).ids) == fewest + 1


def test_a_large_text_does_not_outvote_the_tasks_own(tiny_student: Path) -> None:
    fewest = len(select_pieces(tiny_student, []).ids)
    names = {i: piece for piece, i in pieces(tiny_student).items()}
    own, other = ["good film", "good plot"], ["dull"] * 90 + ["film"] * 10
    for texts, words in (((own, other), {"dull", "good", "film"}), (([*own, *other],), {"dull", "film", "good"})):
        stay = [names[i] for i in select_pieces(tiny_student, *texts, most=fewest + 2).ids]
        left = {piece for piece in stay if len(piece.removeprefix("##")) > 1 and piece[0] != "["}
        assert left < words
        assert ("good" in left) == (len(texts) == 2)  # one text of it all has more of "film"


def test_words_that_left_are_spelled(tiny_student: Path, trimmed: Path) -> None:
    encoder = TextEncoder(trimmed, 32)
    (ids,) = encoder.encode(["a clever plot"]).ids
    assert encoder.tokens(ids) == ["[CLS]", "a", "c", "##l", "##e", "##v", "##e", "##r", "plot", "[SEP]"]


def test_hugging_face_reads_the_same_ids(trimmed: Path) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(trimmed)
    pair = reference("a clever plot", "good")
    ours = TextEncoder(trimmed, 32).encode(["a clever plot"], ["good"])
    assert pair["input_ids"] == ours.ids[0].tolist()
    assert reference.convert_ids_to_tokens([reference.cls_token_id, reference.pad_token_id]) == ["[CLS]", "[PAD]"]


@settings(max_examples=60)
@given(text=st.text(st.sampled_from("abcdefgxyz éß!中"), max_size=40))
def test_nothing_becomes_unknown_that_was_known(tiny_student: Path, trimmed: Path, text: str) -> None:
    unknown = [
        TextEncoder(folder, 60).tokens(TextEncoder(folder, 60).encode([text]).ids[0]).count("[UNK]")
        for folder in (tiny_student, trimmed)
    ]
    assert unknown[0] == unknown[1]


def test_a_piece_that_characters_cannot_spell_stays(tiny_student: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "model")
    stored = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = stored["model"]["vocab"]
    vocabulary |= {"né": len(vocabulary), "nez": len(vocabulary) + 1}  # the vocabulary has no ##é
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    stay = select_pieces(folder, TEXTS).ids
    assert vocabulary["né"] in stay
    assert vocabulary["nez"] not in stay


def save(built: Tokenizer, folder: Path) -> Path:
    folder.mkdir()
    built.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": built.token_to_id("<pad>")}))
    (folder / "vocab.json").write_text("{}")
    return folder


@pytest.mark.parametrize("make", [sentence_pieces, byte_pairs])
def test_unigram_and_byte_pairs_cut_the_same_pieces(make: Callable[..., Tokenizer], tmp_path: Path) -> None:
    built = make([*GOOD, *BAD, *FILLER])
    whole, cut = (save(built, tmp_path / name) for name in ("whole", "cut"))
    chosen = select_pieces(whole, TEXTS)
    trim_files(chosen, cut)
    assert len(chosen.ids) < chosen.old_size * 0.8
    before, after = (TextEncoder(folder, 60) for folder in (whole, cut))
    for text in (*TEXTS, "a film good was", "GOOD"):
        pieces_of = [encoder.tokens(encoder.encode([text], ["the plot"]).ids[0]) for encoder in (before, after)]
        assert pieces_of[0] == pieces_of[1]
    (old,), (new,) = before.encode(TEXTS[:1]).ids, after.encode(TEXTS[:1]).ids
    assert chosen.ids[new].tolist() == old.tolist()
    left = after.tokens(after.encode(["stupid"]).ids[0])
    assert "".join(left[1:-1]).lstrip("\u2581") == "stupid"
    assert len(left) > len(before.encode(["stupid"]).ids[0])
    unknown = before.encode(["a \u4e2d \u00e9"]).ids[0], after.encode(["a \u4e2d \u00e9"]).ids[0]
    assert before.tokens(unknown[0]) == after.tokens(unknown[1])
    assert sorted(pieces(cut).values()) == list(range(len(chosen.ids)))
    assert json.loads((cut / "config.json").read_text())["pad_token_id"] == before.pad_id == after.pad_id
    assert not (cut / "vocab.json").exists()


def test_what_cannot_be_trimmed_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    folder = save(byte_pairs(GOOD), tmp_path / "bpe")
    with pytest.raises(ToolkitError, match="BPE tokenizer, whose pieces are built on each other"):
        select_pieces(folder, TEXTS, most=300)
    ranked = rank_pieces(folder, TEXTS)
    assert ranked.fewest(0.5) == len(ranked.keep().ids)
    words = shutil.copytree(tiny_student, tmp_path / "words")
    stored = json.loads((words / "tokenizer.json").read_text())
    stored["model"] = {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}
    (words / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ToolkitError, match="WordLevel tokenizer"):
        select_pieces(words, TEXTS)
