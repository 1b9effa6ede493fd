"""How long a distillation will take, measured on a few steps of each stage before the first one that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from toolkit.console import echo
from toolkit.data.tokenization import EncodedTexts, TokenizedInputs
from toolkit.distillation.data import DistillationData, teacher_logits_dataset
from toolkit.distillation.initialization.student import ModelPair
from toolkit.distillation.objectives import IntermediateObjective, PredictionObjective
from toolkit.reports.table import duration
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import distributed_state, model_logits
from toolkit.training.precision import bf16_frozen_weights
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import Objective, StageTrainer

WARM_UP, MEASURED = 2, 6  # steps: batches have rows of like length, short ones or long ones
ASKED = 64  # texts that the teacher answers
LEAST_STEPS = 300  # a distillation of fewer has begun and ended before an estimate is of use


def say_duration(
    models: ModelPair, data: DistillationData, stages: Mapping[str, TrainingSchedule], weights: Mapping[str, float],
    relation_heads: int | None, unanswered: Callable[[], int],
) -> None:  # fmt: skip
    """Say how long the stages and the teacher's answers take, all together; say nothing of a short distillation.

    The steps are made with copies of the student: its weights stay as they are.

    Args:
        models: the student and the models that it learns from.
        data: its texts are learnt from, and its rows that choose are scored in stage b.
        stages: "intermediate", "prediction" or both, by what is about to run.
        weights, relation_heads: of the losses.
        unanswered: counts the texts that the teacher is still to be asked about.
    """
    rows = {name: schedule.batch_size * schedule.accumulation for name, schedule in stages.items()}
    if sum(stages[name].epochs * len(data.texts) // rows[name] for name in stages) < LEAST_STEPS:
        return
    tokens, seconds = float(data.texts.lengths.sum()), {}
    if schedule := stages.get("intermediate"):
        seconds["stage a"] = (
            schedule.epochs * tokens * _layer_step(models, data.texts, schedule, weights, relation_heads)
        )
    if schedule := stages.get("prediction"):
        if count := unanswered():
            asked = tokens * count / len(data.texts)
            seconds["the teacher's answers"] = asked * answer_seconds(models.teacher, data.texts, schedule.precision)
        epoch = tokens * _prediction_step(models.student, data, schedule)
        seconds["stage b"] = schedule.epochs * (epoch + schedule.evaluations * _evaluation(models.student, data))
    parts = ", ".join(f"{duration(value)} for {name}" for name, value in seconds.items())
    echo(f"about {duration(sum(seconds.values()))} from here, going by {MEASURED} steps: {parts}")


def _layer_step(
    models: ModelPair, texts: TokenizedInputs, schedule: TrainingSchedule, weights: Mapping[str, float],
    relation_heads: int | None,
) -> float:  # fmt: skip
    """Give the seconds of a token in stage a."""
    assert models.projections is not None, "a teacher that gives its answers only has no layers to learn from"
    student, projections = deepcopy(models.student), deepcopy(models.projections)
    objective = IntermediateObjective(
        student, models.layer_teacher, projections, models.mapping, weights, relation_heads
    )
    device, mean = distributed_state().device, float(texts.lengths.mean())
    with closing(objective), bf16_frozen_weights(models.layer_teacher, schedule.precision, device, mean):
        return _seconds_a_token(objective, EncodedDataset(texts), schedule, student)


def _prediction_step(student: Any, data: DistillationData, schedule: TrainingSchedule) -> float:
    """Give the seconds of a token in stage b."""
    student = deepcopy(student)
    targets = np.zeros((len(data.texts), student.config.num_labels), dtype=np.float32)
    dataset = teacher_logits_dataset(data.texts, targets, data.train.labels)
    return _seconds_a_token(PredictionObjective(student, data.task.kind, 1.0), dataset, schedule, student)


def _evaluation(student: Any, data: DistillationData) -> float:
    """Give the seconds of scoring the rows that choose the step."""
    metric, start = data.scorer.selection_metric(student), time.monotonic()
    if metric is not None:
        metric()
    return time.monotonic() - start


def answer_seconds(teacher: Any, texts: EncodedTexts, precision: str) -> float:
    """Give the seconds of a token in a teacher's forward pass, measured on at most ASKED of the texts that it reads."""
    some = texts.take(np.linspace(0, len(texts) - 1, min(ASKED, len(texts))).astype(int))
    seconds = []
    for _ in range(2):  # the first time memory is fetched from the system
        start = time.monotonic()
        model_logits(teacher, some, precision=precision)
        seconds.append(time.monotonic() - start)
    return min(seconds) / float(some.lengths.sum())


def _seconds_a_token(objective: Objective, dataset: EncodedDataset, schedule: TrainingSchedule, student: Any) -> float:
    """Train for a few steps and give the seconds of a token; each process has its part of a step's tokens."""
    trainer = StageTrainer(objective, dataset, replace(schedule, epochs=1), "duration", student, None)
    steps = trainer.batches.remaining_steps(0)
    _run(trainer, list(islice(steps, WARM_UP)))
    measured = list(islice(steps, MEASURED))
    start = time.monotonic()
    _run(trainer, measured)
    seconds = time.monotonic() - start
    trainer.accelerator.free_memory()
    tokens = sum(float(dataset.encoded.lengths[part.rows].sum()) for parts in measured for part in parts)
    return seconds / (tokens * int(distributed_state().num_processes))


def _run(trainer: StageTrainer, steps: list[Any]) -> None:
    losses: dict[str, torch.Tensor] = {}
    for parts in steps:
        losses = trainer.step(parts)
    for loss in losses.values():
        loss.item()  # waits for a GPU
