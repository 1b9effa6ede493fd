"""Models by name: what may be opened, with which head, and what is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests.support.models import keep_stored_types
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source, output_names
from toolkit.tasks import Task, get_task


@pytest.fixture
def plain(tmp_path: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]) -> Path:
    """A plain Hugging Face directory with positions for 64 tokens."""
    return save_model(tiny_bert(), tmp_path / "plain")


def test_a_bundle_is_known_by_its_digest_and_a_directory_has_none(
    plain: Path, tiny_student: Path, tmp_path: Path
) -> None:
    bundle, directory = (Source(str(path), tmp_path) for path in (tiny_student, plain))
    assert bundle.digest == open_bundle(tiny_student).digest
    assert (directory.digest, directory.bundle) == (None, None)
    assert directory.origin["name"] == str(plain)


def test_an_onnx_bundle_cannot_be_trained(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="is an ONNX bundle, which cannot be trained"):
        Source(str(tiny_onnx), tmp_path)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="nowhere: no such directory"):
        Source(str(tmp_path / "nowhere"), tmp_path)


def test_a_name_of_the_hub_while_it_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="bert-base-uncased is neither a directory nor") as caught:
        Source("bert-base-uncased", tmp_path)  # the tests run with HF_HUB_OFFLINE=1
    assert len(caught.value.problem.splitlines()) == 1


def test_a_corrupt_tokenizer(plain: Path, tmp_path: Path) -> None:
    (plain / "tokenizer.json").write_text('{"model": 1')
    with pytest.raises(ToolkitError, match="cannot open"):
        Source(str(plain), tmp_path)


def test_texts_are_cut_at_the_task_s_length_or_the_model_s(plain: Path, tmp_path: Path) -> None:
    source = Source(str(plain), tmp_path)
    assert source.max_length == 64
    text = "good " * 100
    for asked, task_length, length in ((None, 16, 16), (None, 128, 64), (30, 16, 30)):
        encoder = source.encoder(Task("auto", ("a", "b"), max_length=task_length), asked)
        assert encoder.max_length == length
        assert encoder.encode([text]).lengths.tolist() == [length]
    with pytest.raises(ToolkitError, match=r"--max-length 65: .* has positions for 64 tokens"):
        source.encoder(get_task("sst2"), 65)


def test_a_baked_in_truncation_is_taken_off(plain: Path, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's tokenizer.json cuts at 128 by itself."""
    content = json.loads((plain / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (plain / "tokenizer.json").write_text(json.dumps(content))
    source = Source(str(plain), tmp_path)
    assert json.loads((source.tokenizer_dir / "tokenizer.json").read_text())["truncation"] is None
    assert source.encoder(get_task("sst2"), 20).encode(["good " * 50]).lengths.tolist() == [20]


def test_positions_before_the_first_do_not_count(plain: Path, tmp_path: Path) -> None:
    config = RobertaConfig(
        vocab_size=160, num_hidden_layers=1, hidden_size=24, intermediate_size=48, num_attention_heads=4,
        max_position_embeddings=66, pad_token_id=1,
    )  # fmt: skip
    folder = Path(shutil.copytree(plain, tmp_path / "roberta"))
    RobertaForSequenceClassification(config).save_pretrained(folder)
    assert Source(str(folder), tmp_path).max_length == 64


def test_a_task_puts_on_its_own_head(plain: Path, tmp_path: Path) -> None:
    source = Source(str(plain), tmp_path)
    stored = source.classifier()
    assert not stored.training
    assert stored.config.id2label == {0: "negative", 1: "positive"}
    three = source.classifier(get_task("mnli"))
    assert three.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert three.classifier.weight.shape == (3, 24)
    same = source.classifier(Task("auto", ("negative", "positive")))
    assert torch.equal(same.classifier.weight, stored.classifier.weight)  # a head that fits is taken over
    kinds = {"stsb": "regression", "sst2": "single_label_classification"}
    assert {name: source.classifier(get_task(name)).config.problem_type for name in kinds} == kinds
    several = source.classifier(Task("auto", ("a", "b", "c"), kind="multi_label"))
    assert several.config.problem_type == "multi_label_classification"


def test_the_encoder_alone_is_that_of_the_classifier(plain: Path, tmp_path: Path) -> None:
    source = Source(str(plain), tmp_path)
    encoder, classifier = source.encoder_model().state_dict(), source.classifier().bert.state_dict()
    assert encoder.keys() >= classifier.keys()
    assert all(torch.equal(encoder[name], value) for name, value in classifier.items())


def test_a_masked_language_model_must_have_its_head(plain: Path, tmp_path: Path) -> None:
    source = Source(str(plain), tmp_path)
    with pytest.raises(ToolkitError, match="has no masked-language-model head: cls"):
        source.masked_lm()
    BertForMaskedLM(source.config).save_pretrained(plain)
    assert Source(str(plain), tmp_path).masked_lm().cls.predictions.decoder.weight.shape == (
        source.config.vocab_size,
        24,
    )


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_opened_in_float32(
    stored: torch.dtype, tiny_bert: Callable[..., Any], save_model: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    keep_stored_types(monkeypatch)
    model = tiny_bert().to(stored)
    source = Source(str(save_model(model, tmp_path / "half")), tmp_path)
    for opened in (source.classifier(), source.classifier(get_task("mnli")), source.encoder_model()):
        assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    assert torch.equal(source.classifier().classifier.weight, model.classifier.weight.float())
    BertForMaskedLM(source.config).to(stored).save_pretrained(tmp_path / "half")
    assert Source(str(tmp_path / "half"), tmp_path).masked_lm().dtype == torch.float32


@pytest.mark.parametrize(
    "entry",
    [{"torchscript": True}, {"output_attentions": True}, {"output_hidden_states": True}, {"return_dict": False}],
)
def test_models_return_logits_whatever_their_configuration_asks_for(
    entry: dict[str, bool], plain: Path, tmp_path: Path
) -> None:
    config = json.loads((plain / "config.json").read_text()) | entry
    (plain / "config.json").write_text(json.dumps(config))
    model = Source(str(plain), tmp_path).classifier()
    output = model(input_ids=torch.tensor([[2, 7, 3]]))
    assert list(output) == ["logits"]


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        ({"0": 0, "1": 1}, ("0", "1")),
        ({"1": "no", "2": "yes"}, ("no", "yes")),
        ({"1": "yes", "0": "no"}, ("no", "yes")),
        ({str(i): f"c{i}" for i in range(11)}, tuple(f"c{i}" for i in range(11))),
    ],
)  # fmt: skip
def test_outputs_have_names_in_their_order(
    stored: dict[str, object], names: tuple[str, ...], plain: Path, tmp_path: Path
) -> None:
    config = json.loads((plain / "config.json").read_text()) | {"id2label": stored}
    (plain / "config.json").write_text(json.dumps(config))
    assert output_names(Source(str(plain), tmp_path).config) == names


def test_a_directory_without_a_tokenizer_is_told_what_to_do(plain: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (plain / name).unlink()
    with pytest.raises(ToolkitError, match="has a model and no tokenizer") as caught:
        Source(str(plain), tmp_path)
    assert "save_pretrained" in caught.value.fix


def test_a_reason_on_the_second_line_is_kept(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def fail(*_args: object, **_options: object) -> None:
        raise OSError("Error(s) in loading:\n\tthe disk is full")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    with pytest.raises(ToolkitError, match=r"AutoConfig: Error\(s\) in loading: the disk is full"):
        Source(str(plain), tmp_path)


@pytest.mark.parametrize(
    ("positions", "tokenizer_says", "length"),
    [(64, 64, 64), (64, 1000, 64), (64, 20, 20), (300, 10**30, 300), (4096, 10**30, 512), (4096, 4096, 512)],
)
def test_the_length_is_the_one_that_a_plain_model_states(
    positions: int, tokenizer_says: int, length: int, tiny_bert: Callable[..., Any], save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = save_model(tiny_bert(max_position_embeddings=positions), tmp_path / "plain")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": tokenizer_says}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert Source(str(folder), tmp_path).stated_length == length


def test_the_length_of_a_bundle_is_its_own(tiny_student: Path, tmp_path: Path) -> None:
    assert Source(str(tiny_student), tmp_path).stated_length == open_bundle(tiny_student).max_length == 32


WEIGHTS = "model.safetensors"


def to_pickle(folder: Path, name: str = "pytorch_model.bin") -> None:
    torch.save(load_file(folder / WEIGHTS), folder / name)
    (folder / WEIGHTS).unlink()


def to_shards(folder: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-0*.safetensors"))) > 1
    (folder / WEIGHTS).unlink(missing_ok=True)


def to_pickled_shards(folder: Path) -> None:
    tensors, names = load_file(folder / WEIGHTS), {}
    for part in range(2):
        names |= dict.fromkeys(list(tensors)[part::2], f"pytorch_model-0000{part + 1}-of-00002.bin")
    for file in set(names.values()):
        torch.save({name: tensors[name] for name in tensors if names[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()


def to_vocabulary_file(folder: Path) -> None:
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    for path in folder.glob("*token*"):
        path.unlink()
    lines = "".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.__getitem__))
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")


def to_tokenizer_of_transformers_5(folder: Path) -> None:
    """What its save_pretrained writes: a class that 4 lacks, special tokens in a list, no special_tokens_map.json."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    roles = {name: value for name, value in config.items() if name.endswith("_token")}
    config = {**roles, "backend": "tokenizers", "extra_special_tokens": ["good"], "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "TokenizersBackend"}))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def to_bert_tokenizer_of_transformers_5(folder: Path) -> None:
    to_tokenizer_of_transformers_5(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        to_pickle, to_shards, to_pickled_shards, to_vocabulary_file, to_tokenizer_of_transformers_5,
        to_bert_tokenizer_of_transformers_5,
    ],
)  # fmt: skip
def test_directories_of_every_make_open_as_the_same_model(
    change: Callable[[Path], None], plain: Path, tmp_path: Path
) -> None:
    first = Source(str(plain), tmp_path / "first")
    texts, weights = ["a good film", "The plot was dull, zz"], first.classifier().state_dict()
    ids = first.encoder(get_task("sst2"), 20).encode(texts, texts)
    change(plain)
    second = Source(str(plain), tmp_path / "second")
    opened = second.classifier().state_dict()
    assert all(torch.equal(opened[name], value) for name, value in weights.items())
    again = second.encoder(get_task("sst2"), 20).encode(texts, texts)
    for before, after in zip((*ids.ids, *ids.type_ids), (*again.ids, *again.type_ids), strict=True):
        assert before.tolist() == after.tolist()
    assert second.tokenizer.mask_token_id == first.tokenizer.mask_token_id == 4


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_pickle_does_not_run(plain: Path, tmp_path: Path) -> None:
    (plain / WEIGHTS).unlink()
    torch.save({"a": Touch(tmp_path / "touched")}, plain / "pytorch_model.bin")
    with pytest.raises(ToolkitError, match="cannot open"):
        Source(str(plain), tmp_path / "work").classifier()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_s_own_code_does_not_run(file: str, plain: Path, tmp_path: Path) -> None:
    module = "from pathlib import Path\nPath(__file__).with_name('touched').touch()\n"
    (plain / "own.py").write_text(module)
    classes = {
        "AutoConfig": "own.Own",
        "AutoModelForSequenceClassification": "own.Own",
        "AutoTokenizer": [None, "own.Own"],
    }
    content = json.loads((plain / file).read_text()) | {"auto_map": classes}
    content |= {"model_type": "own"} if file == "config.json" else {"tokenizer_class": "Own"}
    (plain / file).write_text(json.dumps(content))
    with pytest.raises(ToolkitError, match="brings Python code of its own, which is never run"):
        Source(str(plain), tmp_path / "work")
    assert list(tmp_path.rglob("touched")) == []
