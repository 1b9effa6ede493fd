"""Directories as TinyBERT's authors released them: tensors in a pickle, vocab.txt, projections among the weights.

`TinyBERT_General_4L_312D` and its kin hold `pytorch_model.bin`, `vocab.txt` and `config.json`. The projections to the
teacher's width are `fit_dense.*`, one for all levels, or `fit_denses.0.*` to `fit_denses.M.*`. Such a directory is
rewritten into one that the rest of the toolkit opens.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from toolkit.errors import ToolkitError, reason_of

PICKLE, WEIGHTS, PROJECTIONS = "pytorch_model.bin", "model.safetensors", "projections.safetensors"
PROJECTION = re.compile(r"fit_dense(?:s\.(\d+))?\.(weight|bias)")


def is_released(directory: Path) -> bool:
    """Return whether a directory holds weights as a pickle and a vocabulary as text, neither in today's form."""
    old = (directory / PICKLE).is_file() and (directory / "vocab.txt").is_file()
    return old and not any((directory / name).exists() for name in (WEIGHTS, "tokenizer.json", "bundle.json"))


def rewrite_released(directory: Path, out: Path) -> Path:
    """Write a released directory to `out` as config.json, tokenizer, model.safetensors and projections, if any.

    The pickle is read as tensors alone: no code in it runs.

    Raises:
        ToolkitError: a file that cannot be read, a pickle that holds more than tensors, or no BERT.
    """
    from transformers import BertConfig, BertTokenizerFast

    tensors = _read_tensors(directory / PICKLE)
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        BertConfig.from_dict(config | {"model_type": "bert"}).save_pretrained(out)
        BertTokenizerFast.from_pretrained(directory).save_pretrained(out)
    except (OSError, ValueError, TypeError) as error:
        raise ToolkitError(
            f"{directory} cannot be read: {reason_of(error)}", expected="BERT's config.json and vocab.txt"
        ) from error
    model = {_renamed(name): tensor for name, tensor in tensors.items() if name.startswith(("bert.", "classifier."))}
    if not any(name.startswith("bert.") for name in model):
        raise ToolkitError(
            f"{directory / PICKLE} holds no BERT", expected="tensors with names such as bert.embeddings.*"
        )
    save_file(model, out / WEIGHTS, metadata={"format": "pt"})
    projections = {
        f"maps.{match[1] or 0}.{match[2]}": tensor
        for name, tensor in tensors.items() if (match := PROJECTION.fullmatch(name))
    }  # fmt: skip
    if projections:
        save_file(projections, out / PROJECTIONS)
    return out


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.contiguous() for name, value in stored.items() if isinstance(value, Tensor)}
    except Exception as error:  # pickle.UnpicklingError, RuntimeError, EOFError and others, by what is wrong with it
        raise ToolkitError(
            f"{path} is not a file of tensors alone: {reason_of(error)}", expected="weights and nothing else"
        ) from error


def _renamed(name: str) -> str:
    """Give a layer norm's parameters PyTorch's names; early files keep TensorFlow's."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
