"""The trainings of a search: the options of each, how long the short and the whole ones are, and their result."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.config import CompressConfig, DistillConfig
from toolkit.distillation.distill import run_distill

RETRIES = 1  # on a cluster, of a training whose worker dies
Epochs = tuple[int, int]  # of the layer-by-layer stage, and of the prediction stage


def training(config: CompressConfig, shape: str, out: str, epochs: Epochs | None) -> DistillConfig:
    """Give the options of `toolkit distill` that train a student of this shape.

    Args:
        config: of the search.
        shape: a preset or LAYERS/HIDDEN/FFN/HEADS.
        out: the student's directory.
        epochs: of both stages; None for a whole training.
    """
    intermediate, prediction = epochs or (None, None)
    shared = config.shared_with(DistillConfig) | {"out": out}
    return DistillConfig(**shared, student=shape, intermediate_epochs=intermediate, prediction_epochs=prediction)


def training_from(start: Path, options: DistillConfig) -> DistillConfig:
    """Let a training go on from a projection that is kept, as long and at the rates of one that begins with it."""
    return replace(options.resolved(), init=str(start))


def whole_epochs(config: CompressConfig) -> Epochs:
    """Return the epochs of both stages of a whole training."""
    resolved = training(config, "tinybert4", "", None).resolved()
    assert resolved.intermediate_epochs is not None
    assert resolved.prediction_epochs is not None
    return resolved.intermediate_epochs, resolved.prediction_epochs


def rungs(config: CompressConfig) -> list[Epochs]:
    """Return the epochs of both stages on each rung: a short training that decides who goes on, and a whole one."""
    whole = whole_epochs(config)
    return list(dict.fromkeys([(min(1, whole[0]), min(1, whole[1])), whole]))


def describe(epochs: Epochs) -> str:
    """Write the epochs of both stages in words."""
    return f"{epochs[0]} + {epochs[1]} epochs"


def train_or_reuse(title: str, options: DistillConfig, answers: Path, parent: Bundle | None) -> float:
    """Train a student, or find it trained by the same options; return the seconds of its training.

    Args:
        title: of the training, for the user.
        options: of the training.
        answers: file with the teacher's answers.
        parent: the teacher, if it is a bundle.
    """
    seconds = 0.0

    def run(options: DistillConfig) -> Bundle:
        nonlocal seconds
        start = time.monotonic()
        bundle = run_distill(options, answers=answers)
        seconds = time.monotonic() - start
        return bundle

    run_or_reuse(title, options, run, parent)
    return seconds
