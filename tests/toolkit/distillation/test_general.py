"""General distillation: text of any form packed without loss, a student that the task stage takes, and what clashes."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModel

from tests.support.data import BAD, FILLER, GOOD, rows
from tests.support.models import word_pieces
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.data import corpus as corpus_module
from toolkit.data.corpus import PackedCorpus, pack_corpus
from toolkit.distillation.distill import run_distill
from toolkit.distillation.general import run_general
from toolkit.errors import ToolkitError
from toolkit.inference.evaluate import evaluate_bundle
from toolkit.training.finetune import run_finetune

CLS, SEP = 2, 3


@pytest.fixture
def tokenizer_file(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    return save_model(tiny_bert(), tmp_path_factory.mktemp("encoder") / "plain")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"{one}\n" for one, _ in rows(200, seed=5)))
    return path


def distill_general(encoder: Path, text: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "student": "2/16/32/4", "intermediate_epochs": 3, "intermediate_lr": 5e-3, "max_length": 32, "batch_size": 8,
        "accumulation": 2,
    }  # fmt: skip
    settings |= {"corpus": (str(text),), **changes}
    run_general(DistillConfig(str(encoder), None, str(out), general=True, **settings))
    return open_bundle(out).manifest


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, encoder: Path, text: Path) -> Path:
    out = tmp_path_factory.mktemp("general") / "student"
    distill_general(encoder, text, out)
    return out


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
            assert sorted(one.name for one in path.iterdir()) == ["text.txt", "tokenizer.json"]
            return
        found = bodies(pack_corpus([str(path / "text.txt")], path / "tokenizer.json", length=length, stem=path / "out"))
    assert found[: len(expected)] == expected
    filled = found[len(expected) :]  # only the last row is filled up, from the start
    assert len(filled) < length - 2
    assert filled == (expected * length)[: len(filled)]


def test_files_of_every_form_give_the_same_tokens(tokenizer_file: Path, tmp_path: Path) -> None:
    lines = [one for one, _ in rows(60, seed=3)]
    (tmp_path / "whole.txt").write_text("\n".join(lines))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines[:20]).encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join(lines[20:]).encode()))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.txt").write_text("\n".join(lines) + "\n")
    forms = (["whole.txt"], ["a.txt", "b.txt.gz"], ["[ab].txt*"], ["set"])
    packed = [
        pack_corpus([str(tmp_path / one) for one in names], tokenizer_file, length=16, stem=tmp_path / f"out{i}")
        for i, names in enumerate(forms)
    ]
    assert all(one.record["sha256"] == packed[0].record["sha256"] for one in packed)
    assert {one.record["documents"] for one in packed} == {60}
    few = pack_corpus([str(tmp_path / "whole.txt")], tokenizer_file, length=16, stem=tmp_path / "few", max_rows=3)
    assert len(few) == 3
    assert bodies(few) == bodies(packed[0])[: 3 * 14]


def test_a_line_of_any_length_is_read_in_pieces(
    tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "LONGEST_PIECE", 50)
    (tmp_path / "one.txt").write_text("film " * 1000)
    packed = pack_corpus([str(tmp_path / "one.txt")], tokenizer_file, length=16, stem=tmp_path / "out")
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
        patch.delattr(corpus_module, "_write")  # what is there is taken: nothing is tokenized
        assert pack_corpus([str(path)], tokenizer_file, length=12, stem=out).record == first.record
    path.write_text("a dull film\n")
    changed = pack_corpus([str(path)], tokenizer_file, length=8, stem=out)
    assert changed.record["sha256"] != first.record["sha256"]
    damaged = bytearray((tmp_path / "out.tokens").read_bytes())
    damaged[0] ^= 1
    (tmp_path / "out.tokens").write_bytes(damaged)
    assert pack_corpus([str(path)], tokenizer_file, length=8, stem=out).record == changed.record
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "out.tokens", "out.tokens.json", "text.txt", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("gone.txt", None, "no such file"),
        ("text.txt", b"a film\nna\xefve\n", "is not UTF-8, soon after line"),
        ("text.txt.gz", b"no gzip at all", "cannot be read"),
        ("cut.txt.gz", gzip.compress(b"a fine film\n" * 99)[:-12], "cannot be read"),
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


def test_a_general_student_learns_its_teachers_layers(student: Path, encoder: Path) -> None:
    bundle = open_bundle(student)
    history = bundle.manifest["stages"]["general"]["history"]
    assert set(history[0]) == {"step", "attention", "hidden", "embedding"}
    assert bundle.kind == "general"
    assert bundle.manifest["config"]["loss"] == "attention=1,hidden=1,embedding=1,relations=0,prediction=0,label=0"
    projections = load_file(student / "projections.safetensors")
    assert {name: tuple(value.shape) for name, value in projections.items()} == {
        f"maps.{level}.{part}": shape for level in range(3) for part, shape in (("weight", (24, 16)), ("bias", (24,)))
    }
    teacher, ours = AutoModel.from_pretrained(encoder).eval(), AutoModel.from_pretrained(student).eval()
    batch = torch.randint(57, teacher.config.vocab_size, (8, 20))  # whole words
    with torch.no_grad():
        wanted, found = teacher(batch).last_hidden_state, ours(batch).last_hidden_state
    projected = found @ projections["maps.2.weight"].T + projections["maps.2.bias"]
    assert (projected - wanted).square().mean() < 0.5 * wanted.var()
    with pytest.raises(ToolkitError, match="has not learnt a task yet") as caught:
        evaluate_bundle(student)
    assert f"--init {student}" in caught.value.fix


def test_the_task_stage_goes_on_from_it(
    student: Path, encoder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"data": str(data_dir)}
    run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path / "teacher"), epochs=6, lr=5e-3, **common))

    def first_losses(init: str) -> dict[str, float]:
        out = tmp_path / init.rpartition("/")[2]
        settings: dict[str, Any] = {"student": "2/16/32/4", "intermediate_lr": 1e-9, "intermediate_epochs": 2}
        run_distill(DistillConfig(
            str(tmp_path / "teacher"), "auto", str(out), init=init, prediction_epochs=0, **settings, **common
        ))  # fmt: skip
        history = open_bundle(out).manifest["stages"]["intermediate"]["history"]
        return {name: value for name, value in history[0].items() if name != "step"}

    ours, random = first_losses(str(student)), first_losses("random")
    assert all(ours[name] < 0.9 * random[name] for name in ours)  # the hidden losses need the projections too
    assert "drawn new" not in capsys.readouterr().out


def test_projections_for_another_width_are_drawn_new(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wide = save_model(tiny_bert(hidden_size=32), tmp_path / "wide")
    run_distill(DistillConfig(
        str(wide), "auto", str(tmp_path / "s"), data=str(data_dir), init=str(student), student="2/16/32/4",
        intermediate_epochs=1, prediction_epochs=0, allow_weak_teacher=True,
    ))  # fmt: skip
    assert "the projections are drawn new" in capsys.readouterr().out


def test_a_student_of_another_vocabulary_is_refused(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    """As many pieces, but others: every shape fits, and every embedding would stand for another word."""
    from transformers import PreTrainedTokenizerFast

    other = save_model(tiny_bert(), tmp_path / "other")
    mixed = word_pieces([word[::-1] for word in (*BAD, *FILLER, *GOOD)])
    PreTrainedTokenizerFast(
        tokenizer_object=mixed, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(other)  # fmt: skip
    with pytest.raises(ToolkitError, match="has another vocabulary than"):
        run_distill(DistillConfig(
            str(other), "auto", str(tmp_path / "s"), data=str(data_dir), init=str(student), student="2/16/32/4",
            allow_weak_teacher=True,
        ))  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_relations_teach_a_student_with_other_heads(encoder: Path, text: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"student": "2/24/32/3", "init": "random", "intermediate_epochs": 8}
    manifest = distill_general(encoder, text, tmp_path / "s", objective="relations", **settings)
    history = manifest["stages"]["general"]["history"]
    assert set(history[0]) == {"step", "relations"}
    assert history[-1]["relations"] < 0.7 * history[0]["relations"]
    with pytest.raises(ToolkitError, match="--relation-heads 7 does not divide both widths, 24 of the student"):
        distill_general(encoder, text, tmp_path / "t", objective="relations", relation_heads=7, **settings)
    with pytest.raises(ToolkitError, match="the teacher has 4 attention heads, the student 3") as caught:
        distill_general(encoder, text, tmp_path / "t", **settings)
    assert "--objective relations" in caught.value.fix


def test_the_last_checkpoint_is_gone_on_from(
    encoder: Path, text: Path, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training.trainer import StageTrainer

    step, calls = StageTrainer.step, []

    def stop(self: StageTrainer, parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return step(self, parts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StageTrainer, "step", stop)
        distill_general(encoder, text, tmp_path / "s", checkpoint_every=5)
    assert (tmp_path / "s.partial").is_dir()
    distill_general(encoder, text, tmp_path / "s", checkpoint_every=5)
    whole, resumed = (open_bundle(path).manifest["files"] for path in (student, tmp_path / "s"))
    for name in ("model.safetensors", "projections.safetensors"):
        assert whole[name] == resumed[name]
