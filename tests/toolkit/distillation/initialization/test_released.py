"""Directories as TinyBERT's authors released them: a pickle, a vocabulary as text, projections among the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from tests.support.distillation import distill
from toolkit.distillation.initialization.released import is_released, rewrite_released
from toolkit.errors import ToolkitError

SHAPE = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 4}


def release(teacher: Path, out: Path, projections: dict[str, torch.Tensor], **changes: int) -> Path:
    """A directory in the form of TinyBERT_General_4L_312D, of random weights."""
    config = json.loads((teacher / "config.json").read_text())
    small = {name: config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size")}
    small |= SHAPE | changes
    torch.manual_seed(3)
    tensors = {f"bert.{name}": tensor for name, tensor in BertModel(BertConfig(**small)).state_dict().items()}
    early = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in tensors.items()}
    out.mkdir()
    torch.save(early | {"cls.predictions.bias": torch.zeros(3)} | projections, out / "pytorch_model.bin")
    (out / "config.json").write_text(json.dumps(small | {"pre_trained": "", "cell": {}}))
    pieces = sorted(AutoTokenizer.from_pretrained(teacher).get_vocab().items(), key=lambda pair: pair[1])
    (out / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in pieces), encoding="utf-8")
    return out


def first_loss(teacher: Path, data: Path, init: Path, out: Path) -> float:
    settings: dict[str, Any] = {"intermediate_epochs": 1, "intermediate_lr": 1e-9, "prediction_epochs": 0}
    history = distill(teacher, data, out, init=str(init), **settings)["stages"]["intermediate"]["history"]
    return float(history[0]["hidden"])


@pytest.mark.parametrize("names", [["fit_dense"], ["fit_denses.0", "fit_denses.1", "fit_denses.2"]])
def test_a_released_student_brings_its_projections(
    names: list[str], tiny_teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    """Projections of zeros leave the teacher's own states as the error; fresh ones add noise to it."""
    width = json.loads((tiny_teacher / "config.json").read_text())["hidden_size"]
    zeros = {f"{name}.weight": torch.zeros(width, 16) for name in names}
    zeros |= {f"{name}.bias": torch.zeros(width) for name in names}
    losses = {}
    for name, tensors in (("brought", zeros), ("fresh", {})):
        source = release(tiny_teacher, tmp_path / name, tensors)
        losses[name] = first_loss(tiny_teacher, data_dir, source, tmp_path / f"{name}-student")
    assert losses["brought"] < losses["fresh"]


def test_a_released_student_of_a_larger_shape_is_projected(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    larger = release(tiny_teacher, tmp_path / "larger", {}, num_hidden_layers=3, hidden_size=24)
    manifest = distill(
        tiny_teacher, data_dir, tmp_path / "out", init=str(larger), intermediate_epochs=1, prediction_epochs=0
    )
    assert manifest["made_from"]["start"]["name"] == str(larger)
    assert len(manifest["made_from"]["start"]["weights_sha256"]) == 64


def test_weights_are_those_of_the_pickle(tiny_teacher: Path, tmp_path: Path) -> None:
    source = release(tiny_teacher, tmp_path / "released", {})
    assert is_released(source)
    out = rewrite_released(source, tmp_path / "out")
    assert not is_released(out)
    opened = BertModel.from_pretrained(out).state_dict()
    stored = torch.load(source / "pytorch_model.bin", weights_only=True)
    norm = "encoder.layer.0.output.LayerNorm"
    assert torch.equal(opened[f"{norm}.weight"], stored[f"bert.{norm}.gamma"])
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(opened[word], stored[f"bert.{word}"])
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(tiny_teacher).get_vocab()


def test_missing_tensors_are_named(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    source = release(tiny_teacher, tmp_path / "released", {})
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    torch.save(tensors, source / "pytorch_model.bin")
    with pytest.raises(ToolkitError, match=r"bert\.encoder\.layer\.1\.output\.dense\.weight is missing"):
        distill(tiny_teacher, data_dir, tmp_path / "out", init=str(source))


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(tiny_teacher: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    source = release(tiny_teacher, tmp_path / "released", {"bert.trap": Trap()})  # type: ignore[dict-item]
    with pytest.raises(ToolkitError, match="is not a file of tensors alone"):
        rewrite_released(source, tmp_path / "out")
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_model_are_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    source = release(tiny_teacher, tmp_path / "released", {})
    torch.save({"roberta.embeddings": torch.zeros(1)}, source / "pytorch_model.bin")
    with pytest.raises(ToolkitError, match="holds no BERT"):
        rewrite_released(source, tmp_path / "out")
