"""Models that `toolkit score` asks: bundles in their runtimes, and Hugging Face classifiers in PyTorch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle.format import is_bundle
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import Runtime, TorchRuntime, batched_logits
from toolkit.tasks import Kind, Task

BATCH_ROWS = {"cpu": 32, "cuda": 256}
BATCH_TOKENS = {"cpu": 16_384, "cuda": 131_072}  # padding included: attention takes memory by their length


@dataclass(frozen=True)
class Scorer:
    """A classifier in memory.

    Attributes:
        task: its labels.
        says_pairs: whether its task says if it reads pairs; a plain Hugging Face classifier's does not.
        encoder, runtime: its tokenizer and model; several threads may use both at once.
        digest: of the bundle, or of the weights.
        device: "cpu" or "cuda".
        scale: factors of the logits, [1] or [C], that make its probabilities calibrated.
        thresholds: score of each label [C] below which its answers are unsure; None where nothing tells.
    """

    task: Task
    says_pairs: bool
    encoder: TextEncoder
    runtime: Runtime
    digest: str
    device: str
    scale: np.ndarray | float = 1.0
    thresholds: np.ndarray | None = None

    @property
    def max_length(self) -> int:
        """Tokens at which texts are cut."""
        return self.encoder.max_length

    def answer(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """Compute logits [n, C] float32 of n >= 1 texts or pairs."""
        return self.logits(self.encoder.encode(texts, pairs))

    def logits(self, encoded: EncodedTexts) -> np.ndarray:
        """Compute logits [n, C] float32 of n >= 1 inputs; they depend on these inputs alone, not on other threads."""
        return batched_logits(self.runtime, encoded, BATCH_ROWS[self.device], BATCH_TOKENS[self.device])


def open_scorer(name: str, device: str) -> Scorer:
    """Open a model with one CPU for each thread that will ask it.

    Args:
        name: a bundle, a directory of a Hugging Face classifier, or its name on the hub.
        device: "cpu", "cuda", or "auto": a GPU for PyTorch models where there is one.

    Raises:
        ToolkitError: a damaged bundle, no such model, or one that is no classifier.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # each thread tokenizes its own texts
    if is_bundle(Path(name)):
        return _open_bundle(name, device)
    return _open_hugging_face(name, device)


def _open_bundle(name: str, device: str) -> Scorer:
    onnx = any((Path(name) / file).is_file() for file in ("model.onnx", "1/model.onnx"))
    device = "cpu" if onnx and device == "auto" else _torch_device(device)
    predictor = open_predictor(name, threads=1, device=device, memory_pattern=False)
    return Scorer(
        predictor.task, True, predictor.encoder, predictor.runtime, predictor.bundle.digest, device, predictor.scale,
        predictor.thresholds,
    )  # fmt: skip


def _open_hugging_face(name: str, device: str) -> Scorer:
    require_packages("torch", "transformers", "accelerate", purpose=f"scoring with {name}")
    import torch

    from toolkit.models.loading import Source, output_names
    from toolkit.models.trial import check_classifier
    from toolkit.training.checkpoints import weights_digest

    device = _torch_device(device)
    with tempfile.TemporaryDirectory() as workdir:
        source = Source(name, Path(workdir))
        model = source.classifier()
        check_classifier(model, name)
        encoder = TextEncoder(source.tokenizer_dir, source.stated_length)
    torch.set_num_threads(1)
    labels = output_names(model.config)
    task = Task("auto", labels, kind=_kind(model.config.problem_type, len(labels)), max_length=encoder.max_length)
    return Scorer(task, False, encoder, TorchRuntime(model, device), weights_digest(model), device)


def _kind(problem_type: str | None, outputs: int) -> Kind:
    """Name the kind of a Hugging Face classifier; without a type one output is a number, as transformers reads it."""
    if problem_type is None:
        return "regression" if outputs == 1 else "classification"
    kinds: dict[str, Kind] = {"multi_label_classification": "multi_label", "regression": "regression"}
    kind = kinds.get(problem_type, "classification")
    if kind == "regression" and outputs > 1:
        raise ToolkitError(f"the model gives {outputs} numbers for a text", expected="one number, or labels")
    return kind


def _torch_device(device: str) -> str:
    if device != "auto":
        return device
    require_packages("torch", purpose="running a PyTorch model")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
