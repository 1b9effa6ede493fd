"""The models that `bench` measures: a bundle, BERT-base's architecture, any Hugging Face directory as a baseline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from toolkit.bench.flops import BertShape
from toolkit.bench.random_models import architecture_key, bert_base_config, build, cached_onnx, export_onnx
from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.weights import file_bytes, safetensors_parameters, weight_parts
from toolkit.config import STUDENTS
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError
from toolkit.models.families import position_offset

RANDOM_WEIGHTS = "architecture only, random weights: fair for size and speed, says nothing about accuracy"


@dataclass(frozen=True)
class BenchModel:
    """A model that is measured.

    Attributes:
        name: what the reports call it.
        config: its Hugging Face `config.json`.
        onnx: its architecture as fp32 ONNX with random weights, by the exporter that all subjects share.
        bundle: where it is one.
        path: its directory; None for BERT-base.
        note: what a reader must know about its weights.
    """

    name: str
    config: dict[str, Any]
    onnx: Path
    bundle: Bundle | None = None
    path: Path | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """Equal for equal architectures."""
        return architecture_key(self.config)

    @property
    def shape(self) -> BertShape | None:
        """None for another family than BERT."""
        return BertShape.from_config(self.config)

    @property
    def architecture(self) -> str:
        """What it is called: "tinybert4", "BERT-base", else its dimensions."""
        names = {shape: name for name, shape in STUDENTS.items()} | {"12/768/3072/12": "BERT-base"}
        return names.get(self.dimensions, self.dimensions)

    @property
    def dimensions(self) -> str:
        """LAYERS/HIDDEN/FFN/HEADS, such as 4/312/1200/12; for another family than BERT its name."""
        if self.shape is None:
            return str(self.config["model_type"])
        return f"{self.shape.layers}/{self.shape.hidden}/{self.shape.ffn}/{self.config['num_attention_heads']}"

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        return int(self.config["vocab_size"])

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        return int(self.config.get("hidden_size") or self.config["dim"])

    @property
    def max_tokens(self) -> int:
        """Tokens that the position table serves."""
        offset = position_offset(self.config["model_type"], self.config.get("pad_token_id"))
        return int(self.config["max_position_embeddings"]) - offset

    @cached_property
    def parameters(self) -> int:
        """As stored in its safetensors, by closed formula for BERT, else counted in the model built anew."""
        weights = self.path / "model.safetensors" if self.path else None
        if weights and weights.is_file():
            return safetensors_parameters(weights)
        return self.shape.parameters if self.shape else sum(one.numel() for one in build(self.config).parameters())

    @cached_property
    def onnx_bytes(self) -> int:
        """Of the fp32 ONNX file."""
        return file_bytes(self.onnx)

    @cached_property
    def parts(self) -> dict[str, int]:
        """Bytes of its weights by part of the model: as given where it is a bundle, else of the fp32 ONNX file."""
        parts = weight_parts(self.bundle.weights if self.bundle else self.onnx)
        return {name: part.size_bytes for name, part in parts.items()}

    @property
    def score(self) -> float | None:
        """The task's first metric on its dev set, from the bundle's manifest."""
        return self._metric("metrics")

    @property
    def teacher_score(self) -> float | None:
        """The same of the teacher it was distilled from."""
        return self._metric("teacher_metrics")

    @property
    def fp32_score(self) -> float | None:
        """The same of its weights in fp32: its own, or what its parent scored when export compared the two."""
        if self.bundle is None or self.bundle.precision == "fp32":
            return self.score
        found = (self.bundle.manifest.get("gates") or {}).get("reference_metrics") or {}
        return found.get(self.bundle.task.metric)

    def _metric(self, entry: Literal["metrics", "teacher_metrics"]) -> float | None:
        found = (self.bundle.manifest.get(entry) or {}).get(self.bundle.task.metric) if self.bundle else None
        return None if found is None else float(found)

    def encoder(self, max_length: int) -> TextEncoder:
        """Its own tokenizer."""
        assert self.path is not None, f"{self.name} has no tokenizer"
        return TextEncoder(self.path, max_length)


def bert_base() -> BenchModel:
    """BERT-base's architecture; its ONNX file comes out of the user's cache after the first time."""
    config = bert_base_config()
    return BenchModel("BERT-base", config, cached_onnx(config), note=RANDOM_WEIGHTS)


def from_bundle(bundle: Bundle, scratch: Path) -> BenchModel:
    """A bundle, its architecture exported anew as fp32 ONNX beside nothing else in `scratch`."""
    return BenchModel(str(bundle.path), bundle.config, _export(bundle.config, scratch), bundle, bundle.path)


def directory(path: Path, scratch: Path) -> BenchModel:
    """A baseline given as a directory: a bundle, or any Hugging Face classifier's `config.json` and tokenizer.

    Raises:
        ToolkitError: neither.
    """
    if is_bundle(path):
        return from_bundle(open_bundle(path), scratch)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        model_type = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolkitError(
            f"--baseline {path}: no config.json that can be read ({type(error).__name__})",
            expected="bert-base, a bundle, or a Hugging Face model directory",
        ) from None
    assert model_type
    has_tokenizer = (path / "tokenizer.json").is_file()
    return BenchModel(str(path), config, _export(config, scratch), path=path if has_tokenizer else None)


def check_lengths(length: int, subjects: Sequence[BenchModel]) -> None:
    """Refuse inputs that some model has no positions for.

    Raises:
        ToolkitError: names the first such model and the longest length that all take.
    """
    for subject in subjects:
        if length > subject.max_tokens:
            raise ToolkitError(
                f"--length {length}: {subject.name} has positions for {subject.max_tokens} tokens",
                fix=f"--length {min(one.max_tokens for one in subjects)}",
            )


def _export(config: dict[str, Any], scratch: Path) -> Path:
    path = scratch / f"{architecture_key(config)[:16]}.onnx"
    if not path.exists():
        export_onnx(config, path)
    return path
