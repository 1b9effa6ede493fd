"""Scores of a model on the splits of its training, and the metric by which the step to keep is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from toolkit.bundle.manifest import ScoredSplit, Selection
from toolkit.bundle.scores import ScoresBySplit
from toolkit.data.splits import TaskSplits
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.data.truncation import Truncation, measure_truncation
from toolkit.inference.metrics import by_class, evaluate
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits

Metrics = dict[str, float]


class SplitScorer:
    """Scores models on the labelled splits of a training, all of them encoded once.

    Attributes:
        task: of the splits.
        splits: the rows.
        encoded: the texts of the splits that are scored, by name.
        truncation: the share of them that is cut, by name.
    """

    def __init__(self, task: Task, splits: TaskSplits, encoder: TextEncoder) -> None:
        self.task, self.splits = task, splits
        self.encoded: dict[ScoredSplit, EncodedTexts] = {
            name: encoder.encode(split.texts, split.pairs) for name, split in splits.scored.items()
        }
        self.truncation: dict[str, Truncation] = {
            name: measure_truncation(encoder, self.encoded[name], split.texts, split.pairs)
            for name, split in splits.scored.items()
        }
        self._encoder = encoder

    @cached_property
    def _judges(self) -> EncodedTexts:
        judges = self.splits.judges
        return self.encoded["dev"] if judges is self.splits.dev else self._encoder.encode(judges.texts, judges.pairs)

    def scores(self, model: Any, judged: np.ndarray | None = None) -> dict[ScoredSplit, Metrics]:
        """Compute all metrics of a model on each split that is scored.

        Args:
            model: a classifier in eval mode.
            judged: its logits [n, C] on `splits.judges`, where they are known: they are not computed again.
        """
        return {name: scores["metrics"] for name, scores in self.scores_of(self.logits(model, judged)).items()}

    def logits(self, model: Any, judged: np.ndarray | None = None) -> dict[ScoredSplit, np.ndarray]:
        """Compute the logits [n, C] of a model on each split that is scored, those of `judged` where they are known."""
        known = {name: judged for name, split in self.splits.scored.items() if split is self.splits.judges}
        return {
            name: model_logits(model, encoded) if (own := known.get(name)) is None else own
            for name, encoded in self.encoded.items()
        }

    def scores_of(self, logits: Mapping[ScoredSplit, np.ndarray]) -> ScoresBySplit:
        """Compute all metrics, and those by class, from logits [n, C] on each split."""
        return {
            name: {
                "metrics": evaluate(self.task, logits[name], split.labels),
                "by_class": by_class(self.task, logits[name], split.labels),
            }
            for name, split in self.splits.scored.items()
        }

    def judged(self, model: Any, name: str) -> np.ndarray:
        """Compute the logits [n, C] of a model on `splits.judges`; `name` is that of the progress bar."""
        return model_logits(model, self._judges, name)

    def selection_metric(self, model: Any) -> Callable[[], float] | None:
        """Give what computes the metric of the rows that choose the step to keep; None where none do."""
        selection = self.splits.selection
        if selection is None:
            return None
        return lambda: evaluate(self.task, model_logits(model, self._judges), selection.labels)[self.task.metric]

    @property
    def selection(self) -> Selection | None:
        """Which rows choose the step to keep, for a manifest."""
        selection, chooser = self.splits.selection, self.splits.chooser
        return None if selection is None or chooser is None else {"split": chooser, "rows": len(selection)}
