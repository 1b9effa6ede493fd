"""Models that `toolkit score` asks: bundles in their runtimes, and Hugging Face classifiers in PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle.format import is_bundle
from toolkit.data.tokenization import EncodedTexts
from toolkit.errors import require_packages
from toolkit.inference.cascade import SecondAnswer, thresholds_of
from toolkit.inference.hugging_face import open_hugging_face
from toolkit.inference.predictor import Classifier, Predictor, open_predictor
from toolkit.inference.runtimes import batched_logits
from toolkit.tasks import Task

BATCH_ROWS = {"cpu": 32, "cuda": 256}
BATCH_TOKENS = {"cpu": 16_384, "cuda": 131_072}  # padding included: attention takes memory by their length


@dataclass(frozen=True)
class Answers:
    """The answers to n rows.

    Attributes:
        logits: [n, C].
        scores: [n, C] calibrated probabilities, or for regression the number itself.
        unsure: bool [n]; None where nothing tells a sure answer.
        models: n names of whoever answered; None where there is one model.
    """

    logits: np.ndarray
    scores: np.ndarray
    unsure: np.ndarray | None = None
    models: list[str] | None = None


@dataclass(frozen=True)
class Scorer:
    """A classifier in memory, run in batches that its device takes.

    Attributes:
        classifier: a bundle or a Hugging Face classifier; several threads may ask it at once.
        device: "cpu" or "cuda".
        thresholds: score of each label [C] below which its answers are unsure; None where nothing tells.
    """

    classifier: Classifier
    device: str
    thresholds: np.ndarray | None = None

    @property
    def task(self) -> Task:
        """The labels."""
        return self.classifier.task

    @property
    def says_pairs(self) -> bool:
        """Whether the task says if it reads pairs; a plain Hugging Face classifier's does not."""
        return isinstance(self.classifier, Predictor)

    @property
    def digest(self) -> str:
        """The digest of the bundle, or of the weights."""
        return self.classifier.digest

    @property
    def max_length(self) -> int:
        """Tokens at which texts are cut."""
        return self.classifier.encoder.max_length

    def answer(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """Compute logits [n, C] float32 of n >= 1 texts or pairs."""
        return self.logits(self.classifier.encoder.encode(texts, pairs))

    def logits(self, encoded: EncodedTexts) -> np.ndarray:
        """Compute logits [n, C] float32 of n >= 1 inputs; they depend on these inputs alone, not on other threads."""
        return batched_logits(self.classifier.runtime, encoded, BATCH_ROWS[self.device], BATCH_TOKENS[self.device])

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits [n, C] into calibrated scores [n, C]."""
        return self.classifier.scores(logits)

    def second_answer(self, logits: np.ndarray, order: Sequence[int]) -> SecondAnswer:
        """Make a second model's answer of its logits [n, C], its outputs taken in an order."""
        return SecondAnswer.of(self.classifier, logits, order)


def open_scorer(name: str, device: str, threshold: float = 0.0, threads: int = 1) -> Scorer:
    """Open a model, by default with one CPU for each thread that will ask it.

    Args:
        name: a bundle, a directory of a Hugging Face classifier, or its name on the hub.
        device: "cpu", "cuda", or "auto": a GPU for PyTorch models where there is one.
        threshold: below which its answers are unsure; 0 takes the bundle's own.
        threads: of the model; 0 takes all cores.

    Raises:
        ToolkitError: a damaged bundle, no such model, or one that is no classifier.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # each thread tokenizes its own texts
    classifier, device = _opened(name, device, threads)
    return Scorer(classifier, device, thresholds_of(classifier, threshold))


def _opened(name: str, device: str, threads: int) -> tuple[Classifier, str]:
    if is_bundle(Path(name)):
        onnx = any((Path(name) / file).is_file() for file in ("model.onnx", "1/model.onnx"))
        device = "cpu" if onnx and device == "auto" else _torch_device(device)
        return open_predictor(name, threads=threads, device=device, memory_pattern=False), device
    device = _torch_device(device)
    return open_hugging_face(name, device, threads), device


def _torch_device(device: str) -> str:
    if device != "auto":
        return device
    require_packages("torch", purpose="running a PyTorch model")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
