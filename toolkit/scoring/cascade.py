"""A cascade: a first model answers all texts, and a second one those that the first is unsure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import NamedTuple

import numpy as np

from toolkit.bundle.calibration import is_unsure
from toolkit.config import ScoreConfig
from toolkit.config.model_names import NamedModel
from toolkit.errors import ToolkitError, raise_problems
from toolkit.inference.cascade import label_places, merged, require_labels, require_thresholds
from toolkit.inference.predictor import LabelScore, best_labels, check_inputs
from toolkit.scoring.endpoints import Endpoint, open_endpoint, open_second_endpoint
from toolkit.scoring.models import Answers, Scorer, open_scorer
from toolkit.tasks import Task


@dataclass(frozen=True)
class CascadeAnswers(Answers):
    """The answers of a cascade to n texts, each by whichever model `models` names.

    Attributes:
        unsure: bool [n]; the first model is unsure and may not ask on, or the second one is unsure too.
    """

    unsure: np.ndarray
    models: list[str]


class Answer(NamedTuple):
    """An answer to a text: its best label, the score of it, whether it is unsure, and the model that gave it."""

    label: str
    score: float
    unsure: bool
    model: str


class Cascade:
    """A first model with a second one behind it.

    Args:
        first: the model that answers all texts; its thresholds say what it is unsure of.
        second: answers what the first one is unsure of.
        names: of both.
        share: largest share of all texts that the second one gets.

    Raises:
        ToolkitError: the first model has no threshold, or the labels are others.
    """

    def __init__(
        self, first: Scorer, second: Scorer | Endpoint, names: tuple[NamedModel, NamedModel], share: float = 1.0
    ) -> None:
        own, other = names
        self.first, self.second, self.share = first, second, share
        self.name, self.second_name = own.name, other.name
        self._thresholds = require_thresholds(first.thresholds, other.place, own.name, own.place)
        require_labels(second.task.kind, f"--fallback {other.place}")
        self._order = label_places(first.task.labels, second.task.labels, f"--fallback {other.place}")
        if self.name == self.second_name:
            raise ToolkitError(f"{own.place} and {other.place} would both be {self.name}", fix=f"big={other.place}")

    @property
    def task(self) -> Task:
        """The first model's labels."""
        return self.first.task

    @property
    def says_pairs(self) -> bool:
        """Whether the first model's task says if it reads pairs."""
        return self.first.says_pairs

    @property
    def device(self) -> str:
        """The first model's device."""
        return self.first.device

    @property
    def max_length(self) -> int:
        """Tokens at which the first model cuts texts."""
        return self.first.max_length

    @property
    def digest(self) -> str:
        """Name both models, and what decides who answers."""
        thresholds = ",".join(f"{own:.17g}" for own in self._thresholds)
        names = f"{self.name} {self.second_name} {self._order}"
        return f"{self.first.digest} {self.second.digest} {names} {thresholds} {self.share:.17g}"

    def most(self, start: int, end: int) -> int:
        """Say how many of the texts from number `start` to `end` the second model may get.

        Of the first n it gets at most share * n, for each n at which a block ends, whatever was scored before.
        """
        return floor(self.share * end) - floor(self.share * start)

    def answer(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, most: int | None = None
    ) -> CascadeAnswers:
        """Answer n >= 1 texts or pairs.

        Args:
            texts, pairs: the texts, and their second ones.
            most: texts that may go on; of more unsure ones the least sure do. None is no bound.

        Raises:
            ToolkitError: an endpoint does not answer.
        """
        logits = self.first.answer(texts, pairs)
        scores = self.first.scores(logits)
        unsure = is_unsure(scores, self._thresholds)
        doubts = np.flatnonzero(unsure)
        rows = np.sort(doubts[np.argsort(scores[doubts].max(axis=1), kind="stable")][:most])
        models = [self.name] * len(texts)
        if not len(rows):
            return CascadeAnswers(logits, scores, unsure, models)
        chosen = rows.tolist()
        answered = self.second.answer(
            [texts[row] for row in chosen], None if pairs is None else [pairs[row] for row in chosen]
        )
        second = self.second.second_answer(answered, self._order)
        unsure[rows] = second.unsure
        for row in chosen:
            models[row] = self.second_name
        return CascadeAnswers(merged(logits, rows, second.logits), merged(scores, rows, second.scores), unsure, models)

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Compute calibrated scores [n, C] float64 of n texts or pairs, by whichever model answers each."""
        return self.answer(texts, pairs).scores if len(texts) else np.empty((0, len(self.task.labels)))

    def classify(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, top_k: int | None = None
    ) -> list[list[LabelScore]]:
        """Rank the labels of each text, as `Predictor.classify` does."""
        check_inputs(self.task, texts, pairs)
        return [best_labels(self.task, row, top_k) for row in self.predict(texts, pairs)]

    def answers(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Answer]:
        """Give the best label of each text, and who says so.

        Args:
            texts: n texts, none of them blank.
            pairs: n second texts, where the task is about pairs.

        Raises:
            ToolkitError: texts that the task does not take, named by their numbers from 0, or an endpoint that does
                not answer.
        """
        check_inputs(self.task, texts, pairs)
        if not len(texts):
            return []
        result = self.answer(texts, pairs)
        best = (best_labels(self.task, row, 1)[0] for row in result.scores)
        rest = zip(result.unsure.tolist(), result.models, strict=True)
        return [Answer(label, score, *more) for (label, score), more in zip(best, rest, strict=True)]


def open_model(config: ScoreConfig) -> Scorer | Endpoint | Cascade:
    """Open the model that the options name, and the one behind it where they name one.

    Raises:
        ToolkitError: a model or an endpoint that cannot be used, other labels, or nothing that tells an unsure answer.
    """
    if config.remote:
        return open_endpoint(config)
    if config.fallback is None:
        return open_scorer(config.model, config.device, config.threshold)
    return _open_cascade(config, config.fallback)


def load_cascade(model: str, fallback: str, *, threshold: float, threads: int, device: str) -> Cascade:
    """Open a model with another one behind it, to classify single texts.

    Raises:
        ToolkitError: as `open_model`.
    """
    config = ScoreConfig(model, out="", fallback=fallback, threshold=threshold, device=device)
    raise_problems(config.fallback_problems(), subject="these options cannot be used")
    return _open_cascade(config, fallback, threads)


def _open_cascade(config: ScoreConfig, fallback: str, threads: int = 1) -> Cascade:
    own, other = NamedModel.parse(config.model), NamedModel.parse(fallback)
    first = open_scorer(config.model, config.device, config.threshold, threads)
    require_thresholds(first.thresholds, fallback, own.name, own.place)  # before the other one is opened or asked
    if other.remote:
        second: Scorer | Endpoint = open_second_endpoint(config, first.task.labels)
    else:
        second = open_scorer(other.place, config.device, threads=threads)
    return Cascade(first, second, (own, other), config.max_fallback_share)
