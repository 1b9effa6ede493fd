"""The losses of a distillation, the objectives that sum them, and weights as --loss spells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from toolkit.config.base import at_least

LAYER_LOSSES, PREDICTION_LOSSES = ("attention", "hidden", "embedding", "relations"), ("prediction", "label")
LOSSES = (*LAYER_LOSSES, *PREDICTION_LOSSES)
OBJECTIVES = {
    "tinybert": ("attention", "hidden", "embedding", "prediction"),
    "relations": ("relations", "prediction"),
    "prediction": ("prediction",),
}


def weight_problems(text: str) -> Iterator[str]:
    """List the problems of weights such as attention=1,hidden=0.5."""
    names: set[str] = set()
    for part in filter(None, text.split(",")):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in LOSSES:
            yield f"--loss {part}: expected NAME=WEIGHT, NAME one of {', '.join(LOSSES)}"
        elif name in names:
            yield f"--loss {part}: {name} is given twice"
        elif not re.fullmatch(r"\d+\.?\d*(e[+-]?\d+)?|\.\d+", number):
            yield f"--loss {part}: expected a weight of 0 or more"
        names.add(name)


def parse_weights(text: str) -> dict[str, float]:
    """Read such weights; `weight_problems` names those that cannot be read."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name.strip(): float(number) for name, _, number in pairs}


def loss_problems(config: Any) -> Iterator[str]:
    """List the problems of the options that choose losses; `config` is the options of `distill`."""
    yield from at_least(1, relation_heads=config.relation_heads)
    if config.objective not in OBJECTIVES:
        yield f"--objective {config.objective}: expected one of {', '.join(OBJECTIVES)}"
        return
    problems = list(weight_problems(config.loss or ""))
    yield from problems
    if problems:
        return
    weights = config.weights
    if not any(weights.values()):
        yield "every loss has weight 0: nothing would be learnt"
    if weights["label"] and config.augment:
        yield f"--loss label={weights['label']:g} with --augment: augmented rows have no labels to learn from"
    predicts = any(weights[name] for name in PREDICTION_LOSSES) and config.prediction_epochs != 0
    if config.quantization_aware and not config.general and not predicts:
        yield "--quantization-aware: expected a prediction stage, the one that it changes"
    if config.quantization_aware and config.precision not in ("auto", "fp32"):
        yield f"--precision {config.precision}: --quantization-aware needs fp32 or auto: int8's numbers fit in it"


def layer_options(config: Any) -> list[str]:
    """List the options of `distill` that ask for something of a teacher's layers, as they are written."""
    text = config.loss or ""
    weights = {} if any(weight_problems(text)) else parse_weights(text)  # what cannot be read is listed elsewhere
    options = [f"--loss {name}" for name in LAYER_LOSSES if weights.get(name)]
    if config.objective == "relations":
        options.append("--objective relations")
    if config.intermediate_epochs:
        options.append(f"--intermediate-epochs {config.intermediate_epochs}")
    if config.layer_map != "uniform":
        options.append(f"--layer-map {config.layer_map}")
    if config.relation_heads is not None:
        options.append(f"--relation-heads {config.relation_heads}")
    return options + ["--shared-projection"] * config.shared_projection
