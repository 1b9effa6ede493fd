"""A student that starts from one with another tokenizer: each word keeps its meaning, or the start is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    BertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PreTrainedTokenizerFast,
)

from tests.support.data import rows
from tests.support.models import keep_stored_types
from toolkit.data.tokenization import TextEncoder
from toolkit.data.vocabulary import select_pieces
from toolkit.distillation.initialization.student import initialize_student
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import TorchRuntime, batched_logits
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.models.trimming import trimmed_source
from toolkit.tasks import Task, get_task

RENAMED = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
TASK = Task("auto", ("negative", "positive"))
TEXTS = [text for text, _ in rows(40, seed=3)]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    shape = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}
    return save_model(tiny_bert(1, **shape), tmp_path_factory.mktemp("starts") / "student")


def renumbered(tokenizer: Tokenizer, respelled: Callable[[str], str]) -> Tokenizer:
    """The tokenizer with its pieces in the reverse order, special ones with RoBERTa's names, others respelled."""
    state = json.loads(tokenizer.to_str())
    ids = {RENAMED.get(piece) or respelled(piece): i for i, piece in enumerate(reversed(state["model"]["vocab"]))}
    state["model"] |= {"vocab": ids, "unk_token": "<unk>"}
    state["post_processor"]["special_tokens"] = {
        name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("<s>", "</s>")
    }
    for part in (*state["post_processor"]["single"], *state["post_processor"]["pair"]):
        if "SpecialToken" in part:
            part["SpecialToken"]["id"] = RENAMED[part["SpecialToken"]["id"]]
    for token in state["added_tokens"]:
        token["content"] = RENAMED[token["content"]]
        token["id"] = ids[token["content"]]
    return Tokenizer.from_str(json.dumps(state))


def other_teacher(tiny_bert: Any, tokenizer: Tokenizer, path: Path, **changes: Any) -> Path:
    names = zip(("pad", "unk", "cls", "sep", "mask"), RENAMED.values(), strict=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{role}_token": name for role, name in names})
    fast.save_pretrained(path)
    tiny_bert(pad_token_id=fast.pad_token_id, **changes).save_pretrained(path)
    return path


def start(teacher: Path, init: Path, workdir: Path) -> Any:
    source, plan = Source(str(teacher), workdir), StudentPlan(Shape(2, 16, 32, 4), (1, 3), str(init))
    texts, model = TextEncoder(teacher, 64).encode(TEXTS), source.classifier()
    first = Source(str(init), workdir / "start")
    return initialize_student(plan, source, model, model, texts, get_task("sst2"), start=first).student


def logits(model: Any, directory: Path) -> np.ndarray:
    return batched_logits(TorchRuntime(model), TextEncoder(directory, 64).encode(TEXTS))


def test_words_keep_their_embeddings_under_other_numbers_and_special_tokens_their_roles(
    student: Path, tiny_bert: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    teacher = other_teacher(tiny_bert, renumbered(tokenizer, str), tmp_path / "teacher")
    student_ids, teacher_ids = (TextEncoder(directory, 64).encode(TEXTS).ids for directory in (student, teacher))
    assert all((a != b).any() for a, b in zip(student_ids, teacher_ids, strict=True)), "nothing to put in order"
    started = start(teacher, student, tmp_path)
    expected = logits(BertForSequenceClassification.from_pretrained(student), student)
    np.testing.assert_array_equal(logits(started, teacher), expected)
    assert expected.std() > 0.01
    assert started.config.pad_token_id == started.get_input_embeddings().padding_idx


def test_pieces_that_the_other_lacks_are_drawn(
    student: Path, tiny_bert: Any, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = renumbered(tokenizer, lambda piece: "wonderful" if piece == "great" else piece)
    teacher = other_teacher(tiny_bert, mixed, tmp_path / "teacher")
    count = mixed.get_vocab_size()
    started = start(teacher, student, tmp_path)
    assert f"{count - 1} of {count} pieces" in capsys.readouterr().out.replace("\n", " ")
    table = started.get_input_embeddings().weight
    assert table[mixed.token_to_id("wonderful")].std() > 0
    stored = BertForSequenceClassification.from_pretrained(student).get_input_embeddings().weight
    assert torch.equal(table[mixed.token_to_id("good")], stored[tokenizer.token_to_id("good")])
    assert not (table[mixed.token_to_id("wonderful")] == stored).all(dim=1).any()


def test_other_words_are_refused(student: Path, tiny_bert: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As many pieces, but others: every shape fits, and every embedding would stand for another word."""
    foreign = renumbered(tokenizer, lambda piece: piece if len(piece) < 4 else piece[::-1])
    teacher = other_teacher(tiny_bert, foreign, tmp_path / "teacher")
    with pytest.raises(ToolkitError, match=r"has another vocabulary than .* only \d\d % of the pieces are the same"):
        start(teacher, student, tmp_path)


def test_weights_of_half_precision_start_in_float32(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_stored_types(monkeypatch)
    half = save_model(BertForSequenceClassification.from_pretrained(student).half(), tmp_path / "half")
    assert start(save_model(tiny_bert(), tmp_path / "teacher"), half, tmp_path).dtype == torch.float32


def mpnet_teacher(tokenizer: Tokenizer, save_model: Callable[..., Path], path: Path) -> Path:
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=3, hidden_size=24, intermediate_size=48,
        num_attention_heads=4, max_position_embeddings=66, pad_token_id=0, initializer_range=0.2,
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
    )  # fmt: skip
    return save_model(MPNetForSequenceClassification(config).eval(), path)


@pytest.mark.parametrize("family", ["Bert", "MPNet"])
def test_a_student_of_the_teachers_own_family_and_shape_is_its_copy(
    family: str, tiny_bert: Any, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "teacher"
    teacher = save_model(tiny_bert(), path) if family == "Bert" else mpnet_teacher(tokenizer, save_model, path)
    source, plan = Source(str(teacher), tmp_path), StudentPlan(Shape(3, 24, 48, 4), (1, 2, 3), "teacher", "teacher")
    texts, model = TextEncoder(teacher, 64).encode(TEXTS), source.classifier()
    pair = initialize_student(plan, source, model, model, texts, get_task("sst2"))
    expected = logits(pair.teacher, teacher)
    np.testing.assert_allclose(logits(pair.student, teacher), expected, atol=1e-6)
    assert expected.std() > 0.01
    assert pair.student.config.model_type == family.lower()
    states = torch.randn(1, 2, 24)
    assert torch.equal(pair.projections(states, 2), states)


def test_a_general_student_of_mpnets_family_has_no_pooler(
    tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = mpnet_teacher(tokenizer, save_model, tmp_path / "teacher")
    source, plan = Source(str(teacher), tmp_path), StudentPlan(Shape(2, 16, 32, 4), (1, 3), "teacher", "teacher")
    model = source.encoder_model()
    pair = initialize_student(plan, source, model, model, TextEncoder(teacher, 64).encode(TEXTS), None)
    assert type(pair.student).__name__ == "MPNetModel"
    assert pair.student.pooler is None
    bias = pair.student.encoder.relative_attention_bias.weight
    assert torch.equal(bias, pair.teacher.encoder.relative_attention_bias.weight)


def test_every_tensor_comes_from_the_directory_or_is_listed(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, damaged = (
        save_model(tiny_bert(), tmp_path / "teacher"),
        Path(shutil.copytree(student, tmp_path / "damaged")),
    )
    weights = load_file(damaged / "model.safetensors")
    head = {name: weights.pop(name) for name in list(weights) if name.startswith(("classifier.", "bert.pooler."))}
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    started = start(teacher, damaged, tmp_path).state_dict()
    assert all(torch.equal(started[name], value) for name, value in weights.items())
    assert not torch.equal(started["classifier.weight"], head["classifier.weight"])
    lost = "bert.encoder.layer.1.output.dense.weight"
    save_file(
        {name: value for name, value in weights.items() if name != lost},
        damaged / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ToolkitError, match=f"does not hold this student: 1 problem\n  - {lost} is missing"):
        start(teacher, damaged, tmp_path)


def test_weights_in_a_bin_file_are_read_and_their_code_is_not_run(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, old = save_model(tiny_bert(), tmp_path / "teacher"), Path(shutil.copytree(student, tmp_path / "old"))
    weights = load_file(student / "model.safetensors")
    (old / "model.safetensors").unlink()
    torch.save(weights, old / "pytorch_model.bin")
    assert torch.equal(start(teacher, old, tmp_path).classifier.weight, weights["classifier.weight"])

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save(weights | {"trap": Trap()}, old / "pytorch_model.bin")
    with pytest.raises(ToolkitError, match="does not hold this student"):
        start(teacher, old, tmp_path)
    assert not (tmp_path / "sprung").exists()


def drawn(source: Source, seed: int, task: Task = TASK) -> Any:
    """A student of answers, from random weights."""
    plan, texts = StudentPlan(Shape(2, 16, 32, 4), (), "random"), source.encoder(task, None).encode(TEXTS)
    answers = np.zeros((len(TEXTS), 2), dtype=np.float32)
    pair = initialize_student(plan, source, None, None, texts, task, answers=lambda: answers, seed=seed)
    assert (pair.projections, pair.layer_teacher) == (None, None)
    return pair.student


def test_a_random_student_of_answers_follows_its_seed_and_has_positions_for_its_texts(
    tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = save_model(tiny_bert(max_position_embeddings=3000), tmp_path / "long")
    source = Source(str(path), tmp_path / "work")
    first, again, other = (drawn(source, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(again[name], weight) for name, weight in first.items())
    assert not torch.equal(other["classifier.weight"], first["classifier.weight"])
    for length, positions in ((64, 512), (1000, 1000), (3000, 3000)):
        student = drawn(source, 1, replace(TASK, max_length=length))
        assert student.config.max_position_embeddings == positions


def test_a_trimmed_vocabulary_keeps_the_rows_of_its_pieces(student: Path, tmp_path: Path) -> None:
    source = Source(str(student), tmp_path / "work")
    chosen = select_pieces(source.tokenizer_dir, ["a good film"])
    reader = trimmed_source(source, chosen, tmp_path / "trimmed")
    texts, plan = reader.encoder(TASK, None).encode(TEXTS), StudentPlan(Shape(2, 16, 32, 4), (), str(student))
    started = initialize_student(plan, reader, None, None, texts, TASK, start=source).student
    stored = BertForSequenceClassification.from_pretrained(student).get_input_embeddings().weight
    table = started.get_input_embeddings().weight
    assert len(table) == started.config.vocab_size == len(chosen.ids)
    assert torch.equal(table, stored[torch.from_numpy(chosen.ids)])
