"""Options of `toolkit distill` that a file of answers, without its teacher, cannot serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from toolkit.config.losses import LAYER_LOSSES, parse_weights


def scores_problems(config: Any) -> Iterator[str]:
    """List the options that need a teacher's layers, labels or other texts; `config` is that of `distill`."""
    layers = [f"--loss {name}" for name in LAYER_LOSSES if parse_weights(config.loss or "").get(name)]
    if config.objective == "relations":
        layers.append("--objective relations")
    if config.intermediate_epochs:
        layers.append(f"--intermediate-epochs {config.intermediate_epochs}")
    if layers:
        yield f"{', '.join(layers)}: a file of answers has no layers to learn from; expected --teacher DIR"
    if config.init == "teacher":
        yield "--teacher-scores alone: expected --init ENCODER, or --init random with --student-tokenizer DIR"
    if config.init == "random" and config.student_tokenizer is None:
        yield "--init random: expected --student-tokenizer DIR, whose word pieces the student reads, or --teacher DIR"
    if config.weights["label"]:
        yield "--loss label: a file of answers has no labels to learn from; expected --teacher DIR"
    others = {"--unlabelled": config.unlabelled, "--augment": config.augment, "--match-labels": config.match_labels}
    if given := [name for name, value in others.items() if value]:
        yield f"{', '.join(given)}: the student learns from the rows of --teacher-scores alone; score more rows"
