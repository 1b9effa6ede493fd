"""Answers whose best score is below the model's threshold: told, or withheld, where a request asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from serve.api.classify import LabelScore
from serve.api.schemas import Abstain
from serve.exceptions import ServeError
from serve.models.registry import Model

SHOWN = 10  # inputs that an error names


class Answer(TypedDict):
    """One label of an answer; the first says whether the answer is unsure."""

    score: float
    label: str | None
    unsure: NotRequired[bool | None]


def check_threshold(model: Model) -> None:
    """Refuse to abstain where nothing tells a sure answer from an unsure one.

    Raises:
        ServeError: 409, the model has no threshold.
    """
    if model.threshold is None:
        fix = "toolkit calibrate --accurate or --agree finds one, and --threshold of the server sets one"
        raise ServeError("Validation", f"`abstain`: {model.name} has no threshold; {fix}", status=409)


def tell_unsure(
    rows: Sequence[Sequence[LabelScore]], unsure: np.ndarray | None, *, abstain: Abstain, details: bool
) -> list[list[Answer]]:
    """Say of each answer whether it is unsure, and withhold those that are.

    Args:
        rows: labels of n inputs, best first.
        unsure: bool [n]; None where the model has no threshold.
        abstain: an unsure answer becomes one label null with the best score; "error" makes an error of all.
        details: the first label of each answer says whether it is unsure, or null where nothing tells.

    Raises:
        ServeError: Unsure, an answer is unsure and the request asks for an error.
    """
    doubts: list[bool] = [False] * len(rows) if unsure is None else unsure.tolist()
    numbers = [str(number) for number, doubt in enumerate(doubts) if doubt]
    if numbers and abstain == "error":
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        which = "" if len(rows) == 1 else f" about inputs {', '.join(numbers[:SHOWN])}{more}"
        raise ServeError("Unsure", f"the model is unsure{which}")
    answers: list[list[Answer]] = [
        [{"score": row[0]["score"], "label": None}] if doubt and abstain
        else [{"score": entry["score"], "label": entry["label"]} for entry in row]
        for row, doubt in zip(rows, doubts, strict=True)
    ]  # fmt: skip
    if details:
        for answer, doubt in zip(answers, doubts, strict=True):
            answer[0]["unsure"] = None if unsure is None else doubt
    return answers
