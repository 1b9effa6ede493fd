"""The teacher of `toolkit distill`: a model, a file of its answers, or both; what a file alone cannot give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from toolkit.config.losses import layer_options, parse_weights, weight_problems


def teacher_problems(config: Any) -> Iterator[str]:
    """List the problems of --teacher and --teacher-scores; `config` is the options of `distill`."""
    if config.teacher is None and (config.teacher_scores is None or config.general):
        yield f"no --teacher: expected a model to learn from{'' if config.general else ', or --teacher-scores FILE'}"
    if config.teacher and config.teacher_scores and not config.teacher_scores.endswith(".parquet"):
        yield f"--teacher-scores {config.teacher_scores}: expected a name that ends in .parquet, beside --teacher"
    if config.student_tokenizer is not None and config.init != "random":
        yield f"--student-tokenizer with --init {config.init}: expected --init random, as others bring their pieces"
    if config.scores_alone and not config.general:
        yield from _problems_alone(config)


def _problems_alone(config: Any) -> Iterator[str]:
    """List the options that need a teacher's layers, labels or other texts; an encoder has layers."""
    weights = {} if any(weight_problems(config.loss or "")) else parse_weights(config.loss or "")
    layers = layer_options(config) if config.init in ("teacher", "random") else []
    if layers:
        yield f"{', '.join(layers)}: a file of answers has no layers to learn; expected --teacher DIR or --init ENCODER"
    if config.init == "teacher":
        yield "--teacher-scores alone: expected --init ENCODER, or --init random with --student-tokenizer DIR"
    if config.init == "random" and config.student_tokenizer is None:
        yield "--init random: expected --student-tokenizer DIR, whose word pieces the student reads, or --teacher DIR"
    if weights.get("label"):
        yield "--loss label: a file of answers has no labels to learn from; expected --teacher DIR"
    others = {"--unlabelled": config.unlabelled, "--augment": config.augment, "--match-labels": config.match_labels}
    if given := [name for name, value in others.items() if value]:
        yield f"{', '.join(given)}: the student learns from the rows of --teacher-scores alone; score more rows"
