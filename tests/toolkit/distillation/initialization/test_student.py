"""A student that starts from one with another tokenizer: each word keeps its meaning, or the start is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

from tests.support.data import rows
from tests.support.models import keep_stored_types
from toolkit.data.tokenization import TextEncoder
from toolkit.distillation.initialization.student import initialize_student, map_vocabulary
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import TorchRuntime, batched_logits
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.tasks import get_task

RENAMED = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
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
    texts = TextEncoder(teacher, 64).encode(TEXTS)
    return initialize_student(plan, source, source.classifier(), texts, get_task("sst2")).student


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


def test_pieces_beyond_the_end_of_a_table_have_no_row(tiny_bert: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Pieces added to a tokenizer, and not to its model."""
    from transformers import AutoTokenizer

    path = other_teacher(tiny_bert, renumbered(tokenizer, str), tmp_path / "teacher")
    longer = AutoTokenizer.from_pretrained(path)
    count = len(longer)
    assert longer.add_tokens(["wonderful"]) == 1
    assert map_vocabulary(longer, longer, count + 1, count + 1).tolist() == [*range(count + 1)]
    assert map_vocabulary(longer, longer, count + 1, count).tolist() == [*range(count), -1]
    assert map_vocabulary(longer, longer, count, count + 1).tolist() == [*range(count)]


def test_weights_of_half_precision_start_in_float32(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_stored_types(monkeypatch)
    half = save_model(BertForSequenceClassification.from_pretrained(student).half(), tmp_path / "half")
    assert start(save_model(tiny_bert(), tmp_path / "teacher"), half, tmp_path).dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_hidden_layers": 1}, "its num_hidden_layers is 1, the student's 2"),
        ({"num_hidden_layers": 3}, "its num_hidden_layers is 3, the student's 2"),
        ({"num_attention_heads": 2}, "its num_attention_heads is 2, the student's 4"),
        ({"hidden_size": 24}, "its hidden_size is 24, the student's 16"),
    ],
)
def test_a_start_of_another_shape_is_refused_with_the_shape_that_it_has(
    changes: dict[str, int], problem: str, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    shape = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4} | changes
    other = save_model(tiny_bert(1, **shape), tmp_path / "other")
    with pytest.raises(ToolkitError, match=problem) as caught:
        start(save_model(tiny_bert(), tmp_path / "teacher"), other, tmp_path)
    assert caught.value.fix == "--student {}/{}/{}/{}".format(*shape.values())


@pytest.mark.parametrize("family", ["Roberta", "Electra", "DistilBert"])
def test_a_start_of_another_family_is_refused(
    family: str, tiny_bert: Any, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    import transformers

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4}
    if family == "DistilBert":
        sizes = {"n_layers": 2, "dim": 16, "hidden_dim": 32, "n_heads": 4}
    config = getattr(transformers, f"{family}Config")(**sizes, vocab_size=tokenizer.get_vocab_size())
    other = save_model(getattr(transformers, f"{family}ForSequenceClassification")(config), tmp_path / "other")
    with pytest.raises(ToolkitError, match=f"its model_type is {family.lower()}, the student's bert"):
        start(save_model(tiny_bert(), tmp_path / "teacher"), other, tmp_path)


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
