"""A trimmed vocabulary: which pieces stay, that ids agree everywhere, and that no known word becomes unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from export.onnx_export import load_classifier
from export.pipeline import run_export
from export.trim_vocabulary import select_pieces, trim_files, trim_model, trim_positions
from tests.support.data import rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.config import ExportConfig
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.predictor import open_predictor
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


def test_a_large_text_does_not_outvote_the_tasks_own(tiny_student: Path) -> None:
    fewest = len(select_pieces(tiny_student, []).ids)
    names = {i: piece for piece, i in pieces(tiny_student).items()}
    own, other = ["good film", "good plot"], ["dull"] * 90 + ["film"] * 10
    for texts, words in (((own, other), {"dull", "good", "film"}), (([*own, *other],), {"dull", "film", "good"})):
        stay = [names[i] for i in select_pieces(tiny_student, *texts, most=fewest + 2).ids]
        left = {piece for piece in stay if len(piece.removeprefix("##")) > 1 and piece[0] != "["}
        assert left < words
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

    reference = AutoTokenizer.from_pretrained(trimmed)
    pair = reference("a clever plot", "good")
    ours = TextEncoder(trimmed, 32).encode(["a clever plot"], ["good"])
    assert pair["input_ids"] == ours.ids[0].tolist()
    assert reference.convert_ids_to_tokens([reference.cls_token_id, reference.pad_token_id]) == ["[CLS]", "[PAD]"]


def test_the_model_gives_the_same_logits_on_what_stays(tiny_student: Path, trimmed: Path) -> None:
    whole, cut = load_classifier(tiny_student), load_classifier(tiny_student)
    chosen = select_pieces(tiny_student, TEXTS)
    trim_model(chosen, cut)
    assert cut.config.vocab_size == len(chosen.ids) < whole.config.vocab_size == chosen.old_size
    expected, logits = (
        TorchRuntime(model).run(TextEncoder(folder, 32).encode(TEXTS).batch(range(2)))
        for model, folder in ((whole, tiny_student), (cut, trimmed))
    )
    np.testing.assert_array_equal(expected, logits)


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


def test_a_smaller_vocabulary(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    sentences = ["the film was good", "a bad plot", "this scene is dull and bad", "the story was very warm"]
    for split in ("train", "dev"):
        write_csv(tmp_path / f"{split}.csv", [(text, row % 2) for row, text in enumerate(sentences * 3)])
    more = tmp_path / "more.txt"
    more.write_text("a lovely story\n")
    bundle = export_loosely(tiny_student, tmp_path, tmp_path / "all", trim_vocabulary=(str(more),))
    assert bundle.manifest["gates"]["agreement"] == 1.0  # no word of dev was cut in other pieces
    assert bundle.manifest["vocabulary"]["kept"] == bundle.config["vocab_size"] < bundle.manifest["vocabulary"]["of"]
    positions = next(tensor for tensor in onnx.load(bundle.weights).graph.initializer if "position" in tensor.name)
    assert positions.dims[0] == bundle.max_length == bundle.config["max_position_embeddings"]
    assert bundle.manifest["vocabulary"]["positions"] == bundle.max_length
    some = bundle.manifest["vocabulary"]["kept"] - 1
    fewer = export_loosely(tiny_student, tmp_path, tmp_path / "some", trim_vocabulary=(str(more),), max_pieces=some)
    assert fewer.config["vocab_size"] == some
    predictor = open_predictor(bundle.path, threads=1)
    assert np.isfinite(predictor.predict(["an unheard-of film", "zzz"])).all()
    write_csv(tmp_path / "dev.csv", rows(60, seed=3))
    # words of neither text are written in single letters, which this model was not trained on: the gate counts that
    with pytest.raises(GateError, match="label agreement"):
        run_export(
            ExportConfig(str(tiny_student), str(tmp_path / "few"), data=str(tmp_path), trim_vocabulary=(str(more),))
        )
    assert not (tmp_path / "few").exists()
