"""What a student's teacher answers: a model that is asked, or a file that has its answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bundle.manifest import ScoredSplit
from toolkit.config import DistillConfig
from toolkit.distillation.answer_cache import AnswerCache
from toolkit.distillation.data import DistillationData
from toolkit.distillation.rows import FileAnswers, TaskRows
from toolkit.distillation.teacher_check import check_teacher
from toolkit.distillation.teaching import Teaching
from toolkit.inference.metrics import evaluate, predictions
from toolkit.models.loading import weights_digest
from toolkit.models.trimming import trim_model
from toolkit.tasks import Task


@dataclass(frozen=True)
class Teacher:
    """A teacher's answers.

    Attributes:
        task: that it answers.
        metrics: its own, by split; those of a split that it did not answer whole are not there.
        answers: gives its logits on the training texts, [n, C]; a model is asked once, the first time.
        unanswered: counts the training texts that a model still has to be asked about.
        dev_rows: numbers of the dev rows that it answered, [k].
        dev_logits: its logits on them, [k, C].
    """

    task: Task
    metrics: dict[ScoredSplit, dict[str, float]]
    answers: Callable[[], np.ndarray]
    unanswered: Callable[[], int]
    dev_rows: np.ndarray
    dev_logits: np.ndarray

    def agreement(self, logits: np.ndarray) -> float | None:
        """Compare a student's dev logits [n, C] with the teacher's: the fraction of equal answers.

        For regression it is Spearman's correlation. None where no dev row has an answer.
        """
        if not len(self.dev_rows):
            return None
        metric = "spearman" if self.task.kind == "regression" else "accuracy"
        task = replace(self.task, metrics=(metric,))
        return evaluate(task, logits[self.dev_rows], predictions(self.dev_logits, task.kind))[metric]


def open_teacher(
    config: DistillConfig, teaching: Teaching, rows: TaskRows, data: DistillationData, cache: Path | None
) -> Teacher:
    """Check the teacher and score it; its outputs take the task's order.

    The model whose layers are learnt takes over the student's vocabulary, where that is trimmed.

    Args:
        config: options.
        teaching: the models.
        rows: of the task.
        data: the same, as the student reads them.
        cache: file that keeps a model's answers, where the options name none.

    Raises:
        ToolkitError: a teacher that does not know the task, or a file of another teacher's answers.
    """
    if rows.answers is not None:
        teacher = _of_file(rows.answers, data)
    else:
        teacher = _of_model(config, teaching, rows, data, cache)
    if data.trimmed is not None and teaching.layer_teacher is not None:
        trim_model(data.trimmed, teaching.layer_teacher)
    return teacher


def _of_file(answers: FileAnswers, data: DistillationData) -> Teacher:
    known = answers.dev_rows, answers.dev_logits
    dev = data.splits.dev
    metrics = evaluate(data.task, answers.dev_logits, dev.labels) if len(answers.dev_rows) == len(dev) else {}
    return Teacher(data.task, {"dev": metrics}, lambda: answers.logits, lambda: 0, *known)


def _of_model(
    config: DistillConfig, teaching: Teaching, rows: TaskRows, data: DistillationData, path: Path | None
) -> Teacher:
    source, model = teaching.source, teaching.teacher
    assert source is not None, "rows without a file's answers are those of a teacher at hand"
    max_length = config.max_length if teaching.reader is source else None
    read = data if data.reader is source else DistillationData.read(rows, source, max_length)
    judged = check_teacher(
        model, read, name=source.name, allow_weak=config.allow_weak_teacher, match=config.match_labels
    )
    logits = read.scorer.logits(model, judged)
    metrics = {split: scores["metrics"] for split, scores in read.scorer.scores_of(logits).items()}
    cache = _cache(config, path, model, read)

    @functools.cache
    def answers() -> np.ndarray:
        # a trimmed teacher reads the student's ids: the same pieces under new numbers
        return (data if teaching.layer_teacher is model else read).answers(model, config.precision, cache)

    def unanswered() -> int:
        if answers.cache_info().currsize:
            return 0
        return len(read.texts) if cache is None else cache.missing(read.inputs)

    return Teacher(data.task, metrics, answers, unanswered, np.arange(len(logits["dev"])), logits["dev"])


def _cache(config: DistillConfig, own: Path | None, teacher: Any, data: DistillationData) -> AnswerCache | None:
    """Open the file of a teacher's answers, that of the options or else `own`, its outputs in the task's order."""
    path = Path(config.teacher_scores) if config.teacher_scores else own
    if path is None:
        return None
    record = {
        "teacher": weights_digest(teacher), "labels": list(data.task.labels), "max length": data.task.max_length,
        "precision": config.precision,
    }  # fmt: skip
    cache = AnswerCache(path, record, data.task, own=config.teacher_scores is None)
    cache.check()
    return cache
