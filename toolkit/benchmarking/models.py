"""Models that `bench` measures: a bundle, BERT-base's architecture, any Hugging Face directory as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from toolkit.benchmarking.flops import BertShape
from toolkit.benchmarking.random_models import (
    MODEL,
    Exporter,
    architecture_key,
    bert_base_config,
    build,
    cached_onnx,
    export_random,
)
from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.manifest import CONFIG
from toolkit.bundle.typed_json import read_config
from toolkit.bundle.weights import file_bytes, safetensors_parameters, weight_parts
from toolkit.config import STUDENTS
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError
from toolkit.models.families import position_offset

# entries of config.json with an encoder's sizes, by the names that families have for them
SIZES = (
    ("num_hidden_layers", "n_layers"), ("hidden_size", "dim"), ("intermediate_size", "hidden_dim"),
    ("num_attention_heads", "n_heads"),
)  # fmt: skip
RANDOM_WEIGHTS = "architecture only, random weights: fair for size and speed, says nothing about accuracy"


@dataclass(frozen=True)
class BenchModel:
    """A model that is measured.

    Attributes:
        name: what the reports call it.
        config: its Hugging Face `config.json`.
        onnx: its architecture as fp32 ONNX with random weights, by the exporter that all models share.
        bundle: the bundle, if the model is one.
        path: its directory; None for BERT-base.
        note: a remark on its weights for the reader of a report.
    """

    name: str
    config: dict[str, Any]
    onnx: Path
    bundle: Bundle | None = None
    path: Path | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of the architecture."""
        return architecture_key(self.config)

    @property
    def shape(self) -> BertShape | None:
        """Dimensions of a BERT; None for another family."""
        return BertShape.from_config(self.config)

    @property
    def architecture(self) -> str:
        """Name of the architecture: "tinybert4", "BERT-base", else its dimensions."""
        names = {shape: name for name, shape in STUDENTS.items()} | {"12/768/3072/12": "BERT-base"}
        return names.get(self.dimensions, self.dimensions)

    @property
    def dimensions(self) -> str:
        """LAYERS/HIDDEN/FFN/HEADS, such as 4/312/1200/12; for another family than BERT behind its name."""
        sizes = "/".join(
            str(next((self.config[name] for name in names if name in self.config), "?")) for names in SIZES
        )
        family = self.config["model_type"]
        return sizes if family == "bert" else f"{family} {sizes}"

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
        """Tokens of the longest input that the position table allows."""
        offset = position_offset(self.config["model_type"], self.config.get("pad_token_id"))
        return int(self.config["max_position_embeddings"]) - offset

    @cached_property
    def parameters(self) -> int:
        """Parameters as stored in its safetensors, by closed formula for BERT, else counted in the model built anew."""
        weights = self.path / "model.safetensors" if self.path else None
        if weights and weights.is_file():
            return safetensors_parameters(weights)
        return self.shape.parameters if self.shape else sum(p.numel() for p in build(self.config).parameters())

    @cached_property
    def onnx_bytes(self) -> int:
        """Bytes of the fp32 ONNX file."""
        return file_bytes(self.onnx)

    @cached_property
    def parts(self) -> dict[str, int]:
        """Bytes of the weights by part of the model: of the bundle's file, or else of the fp32 ONNX file."""
        parts = weight_parts(self.bundle.weights if self.bundle else self.onnx)
        return {name: part.size_bytes for name, part in parts.items()}

    @property
    def score(self) -> float | None:
        """The task's first metric on `split`, from the bundle's manifest."""
        return self._metric("metrics")

    @property
    def split(self) -> str | None:
        """The split of the score."""
        return self.bundle.split if self.bundle and self.score is not None else None

    @property
    def teacher_score(self) -> float | None:
        """The same metric of the teacher that it was distilled from."""
        return self._metric("teacher_metrics")

    @property
    def fp32_score(self) -> float | None:
        """The same metric of its weights in fp32: its own, or its source's, on the same split."""
        if self.bundle is None or self.bundle.precision == "fp32":
            return self.score
        manifest = self.bundle.manifest
        gates = manifest.get("gates")
        if self.split == "dev" and gates:  # export ran both on the same rows
            return gates.get("reference_metrics", {}).get(self.bundle.task.metric)
        sources = [source for source in manifest.get("made_from", {}).values() if source.get("split") == self.split]
        return sources[0].get("metrics", {}).get(self.bundle.task.metric) if sources else None

    def _metric(self, entry: Literal["metrics", "teacher_metrics"]) -> float | None:
        value = (self.bundle.manifest.get(entry) or {}).get(self.bundle.task.metric) if self.bundle else None
        return None if value is None else float(value)

    def encoder(self, max_length: int) -> TextEncoder:
        """Open the model's own tokenizer."""
        assert self.path is not None, f"{self.name} has no tokenizer"
        return TextEncoder(self.path, max_length)


def bert_base(export: Exporter) -> BenchModel:
    """Open BERT-base's architecture; its ONNX file comes out of the user's cache after the first time."""
    config = bert_base_config()
    return BenchModel("BERT-base", config, cached_onnx(config, export), note=RANDOM_WEIGHTS)


def from_bundle(bundle: Bundle, scratch: Path, export: Exporter) -> BenchModel:
    """Open a bundle, and export its architecture anew as fp32 ONNX to `scratch`."""
    return BenchModel(str(bundle.path), bundle.config, _export(bundle.config, scratch, export), bundle, bundle.path)


def from_directory(path: Path, scratch: Path, export: Exporter) -> BenchModel:
    """Open a baseline: a bundle, or the `config.json` and tokenizer of any Hugging Face classifier.

    Raises:
        ToolkitError: the directory is neither.
    """
    if is_bundle(path):
        return from_bundle(open_bundle(path), scratch, export)
    try:
        config = read_config(path / CONFIG)
        if "model_type" not in config:
            raise ToolkitError("model_type is missing")
    except ToolkitError as error:
        raise ToolkitError(
            f"--baseline {path}: no config.json that can be read: {error.problem}",
            expected="bert-base, a bundle, or a Hugging Face model directory",
        ) from None
    has_tokenizer = (path / "tokenizer.json").is_file()
    return BenchModel(str(path), config, _export(config, scratch, export), path=path if has_tokenizer else None)


def check_lengths(length: int, models: Sequence[BenchModel]) -> None:
    """Check that every model has positions for inputs of this length.

    Raises:
        ToolkitError: names the first such model and the longest length that all take.
    """
    for model in models:
        if length > model.max_tokens:
            raise ToolkitError(
                f"--length {length}: {model.name} has positions for {model.max_tokens} tokens",
                fix=f"--length {min(model.max_tokens for model in models)}",
            )


def _export(config: dict[str, Any], scratch: Path, export: Exporter) -> Path:
    folder = scratch / architecture_key(config)[:16]
    return folder / MODEL if folder.exists() else export_random(config, folder, export)
