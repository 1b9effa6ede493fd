"""A trimmed vocabulary: what stays, that ids agree everywhere, and that no word is lost that could be read before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from export.onnx_export import load_classifier
from export.trim_vocabulary import select_pieces, trim_files, trim_model, trim_positions
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import TorchRuntime

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
    fewest = len(select_pieces(tiny_student, []).kept)
    names = {i: piece for piece, i in pieces(tiny_student).items()}
    whole = set(select_pieces(tiny_student, texts).kept.tolist())
    for most, left in (
        (fewest, set()),
        (fewest + 2, {"good", "film"}),
        (fewest + 99, {"good", "film", "dull", "plot"}),
    ):
        found = select_pieces(tiny_student, texts, most=most)
        assert {names[i] for i in found.kept if len(names[i].removeprefix("##")) > 1 and names[i][0] != "["} == left
        assert set(found.kept.tolist()) <= whole
    with pytest.raises(ToolkitError, match=f"expected: at least {fewest}"):
        select_pieces(tiny_student, texts, most=fewest - 1)


def test_a_large_text_does_not_outvote_the_tasks_own(tiny_student: Path) -> None:
    fewest = len(select_pieces(tiny_student, []).kept)
    names = {i: piece for piece, i in pieces(tiny_student).items()}
    own, other = ["good film", "good plot"], ["dull"] * 90 + ["film"] * 10
    for texts, wanted in (((own, other), {"dull", "good", "film"}), (([*own, *other],), {"dull", "film", "good"})):
        found = [names[i] for i in select_pieces(tiny_student, *texts, most=fewest + 2).kept]
        left = {one for one in found if len(one.removeprefix("##")) > 1 and one[0] != "["}
        assert left < wanted
        assert ("good" in left) == (len(texts) == 2)  # one text of it all has more of "film"


def test_positions_that_no_input_reaches_fall_away(tiny_student: Path) -> None:
    whole, cut = load_classifier(tiny_student), load_classifier(tiny_student)
    assert trim_positions(cut, 16) == 16 == cut.config.max_position_embeddings
    batch = TextEncoder(tiny_student, 16).encode([" ".join(["good"] * 40), *TEXTS]).batch(range(3))
    assert batch["input_ids"].shape[1] == 16
    np.testing.assert_array_equal(TorchRuntime(whole).run(batch), TorchRuntime(cut).run(batch))
    cut.config.model_type = "mpnet"  # counts positions from its padding
    assert trim_positions(cut, 8) is None


def test_words_that_left_are_spelled(tiny_student: Path, trimmed: Path) -> None:
    encoder = TextEncoder(trimmed, 32)
    (ids,) = encoder.encode(["a clever plot"]).ids
    assert encoder.tokens(ids) == ["[CLS]", "a", "c", "##l", "##e", "##v", "##e", "##r", "plot", "[SEP]"]


def test_hugging_face_reads_the_same_ids(trimmed: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(trimmed)
    pair = theirs("a clever plot", "good")
    ours = TextEncoder(trimmed, 32).encode(["a clever plot"], ["good"])
    assert pair["input_ids"] == ours.ids[0].tolist()
    assert theirs.convert_ids_to_tokens([theirs.cls_token_id, theirs.pad_token_id]) == ["[CLS]", "[PAD]"]


def test_the_model_gives_the_same_logits_on_what_stays(tiny_student: Path, trimmed: Path) -> None:
    whole, cut = load_classifier(tiny_student), load_classifier(tiny_student)
    chosen = select_pieces(tiny_student, TEXTS)
    trim_model(chosen, cut)
    assert cut.config.vocab_size == len(chosen.kept) < whole.config.vocab_size == chosen.size
    wanted, found = (
        TorchRuntime(model).run(TextEncoder(folder, 32).encode(TEXTS).batch(range(2)))
        for model, folder in ((whole, tiny_student), (cut, trimmed))
    )
    np.testing.assert_array_equal(wanted, found)


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
    kept = select_pieces(folder, TEXTS).kept
    assert vocabulary["né"] in kept
    assert vocabulary["nez"] not in kept


def test_other_tokenizers_are_refused(tiny_student: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "model")
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["model"] = {"type": "BPE", "vocab": {}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ToolkitError, match="BPE tokenizer, whose pieces are built on each other"):
        select_pieces(folder, TEXTS)


def test_padding_behind_other_pieces_is_refused(tiny_student: Path) -> None:
    model = load_classifier(tiny_student)
    model.config.pad_token_id = 60
    with pytest.raises(ToolkitError, match="the padding has id 60"):
        trim_model(select_pieces(tiny_student, ["good"]), model)
