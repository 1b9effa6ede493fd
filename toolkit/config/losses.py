"""The losses of a distillation, the objectives that sum them, and weights as --loss spells them."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
