"""`toolkit distill`: a student learns a task from its teacher, first layer by layer, then from its logits.

Stage a (intermediate) minimises the losses of the mapped layers (Eq. 7 to 9), stage b (prediction) the soft
cross-entropy against the teacher's logits (Eq. 10). arXiv 1909.10351, sections 3.1 and 3.2.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.manifest import Origin, ScoredSplit
from toolkit.bundle.provenance import check_output
from toolkit.bundle.scores import ScoresBySplit, by_split, put_scores
from toolkit.config import LAYER_LOSSES, PREDICTION_LOSSES, DistillConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.truncation import say_truncation
from toolkit.data.vocabulary import TrimmedVocabulary
from toolkit.distillation.answer_cache import AnswerCache
from toolkit.distillation.data import TEACHER_LOGITS, DistillationData, TaskRows, teacher_logits_dataset
from toolkit.distillation.duration import say_duration
from toolkit.distillation.initialization.student import ModelPair, initialize_student, provenance_of
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.distillation.stages import train_layers, train_prediction
from toolkit.distillation.teacher_check import check_teacher
from toolkit.distillation.teaching import Teaching, plan_teaching, trim_reader
from toolkit.models.loading import Source, output_names
from toolkit.models.student import Shape, StudentPlan, plan_student
from toolkit.models.trial import check_classifier
from toolkit.models.trimming import trim_model
from toolkit.reports.table import percent
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.reference import yardsticks
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageResult

Metrics = dict[str, float]


@dataclass(frozen=True)
class Distillation:
    """Models and data of a distillation, ready to train.

    Attributes:
        config: the options, with what the models decide.
        source: the teacher as it was named.
        reader: the model whose word pieces the student reads, its vocabulary perhaps trimmed.
        trimmed: that vocabulary, or None.
        models, data: both models, and the rows to learn from and to score on, as the student reads them.
        answers: gives the teacher's logits on the training texts, [n, C].
        teacher_metrics, start_metrics: by split, of the teacher and of the student before training.
        made_from: provenance, for the manifest.
    """

    config: DistillConfig
    source: Source
    reader: Source
    trimmed: TrimmedVocabulary | None
    models: ModelPair
    data: DistillationData
    answers: Callable[[], np.ndarray]
    teacher_metrics: dict[ScoredSplit, Metrics]
    start_metrics: dict[ScoredSplit, Metrics]
    made_from: dict[str, Origin]


def run_distill(config: DistillConfig, answers: Path | None = None) -> Bundle:
    """Distil a task student from a fine-tuned teacher and write it, with its report, as a bundle to `config.out`.

    Args:
        config: options.
        answers: file that keeps the teacher's answers, where the options name none.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    config.check()
    check_output(config, config.sources)
    config, phases = config.resolved(), PhaseTimer()
    with tempfile.TemporaryDirectory() as workdir:
        prepared = prepare(config, Path(workdir), phases, answers)
        config = prepared.config
        inputs = prepared.data.digests | prepared.models.digests()
        with Checkpoints(config.to_dict(), inputs) as checkpoints:
            stages = train(config, prepared, phases, checkpoints)
            scores = evaluate(prepared, phases)
            return write(config, prepared, stages, scores, phases)


def prepare(config: DistillConfig, workdir: Path, phases: PhaseTimer, answers: Path | None = None) -> Distillation:
    """Read models and data, check the teacher, and initialize the student; `answers` keeps the teacher's answers."""
    name = str(config.teacher)
    with phases("reading models and data"):
        source = Source(name, workdir)
        teacher = source.classifier()
        check_classifier(teacher, name)
        teaching = plan_teaching(config, source, teacher, workdir)
        config = config.started(projected=teaching.projected)
        plan = _plan(config, teaching)
        rows = TaskRows.load(
            output_names(source.config), str(config.task), config.data, augment=config.augment,
            unlabelled=config.unlabelled, selection_rows=config.selection_rows, max_rows=config.max_rows,
            seed=config.seed, options=DataOptions.of(config), title=config.name,
        )  # fmt: skip
        reader, trimmed = trim_reader(teaching.reader, rows.inputs, config.vocabulary_limit, workdir)
        data = rows.read_by(reader, config.max_length or teaching.max_length)
        same_pieces = teaching.reader is source
        taught = data if reader is source else rows.read_by(source, config.max_length if same_pieces else None)
        data.splits.check_patience(config.patience)
        made_from = provenance_of(source, plan.init)  # before hours of training: a damaged bundle is refused here
    layers = f"; layers {plan.mapping}" if plan.mapping else ""
    echo(f"distilling {data.task.name}: {len(data.texts):,} texts, {data.splits.describe()}{layers}")
    for split, truncation in data.truncation.items():
        say_truncation(split, truncation)
    with phases("scoring the teacher"):
        judged = check_teacher(
            teacher, taught, name=name, allow_weak=config.allow_weak_teacher, match=config.match_labels
        )
        teacher_metrics = taught.scorer.scores(teacher, judged)
    cache = answer_cache(config, answers, teacher, taught)
    if trimmed is not None and teaching.layer_teacher is not None:
        trim_model(trimmed, teaching.layer_teacher)
        if teaching.layer_teacher is teacher:  # the texts to learn from have the same pieces, under new numbers
            taught = data
    asked = functools.cache(partial(taught.answers, teacher, config.precision, cache))
    models = _start(config, teaching, plan, reader, teacher, data, asked, phases)
    with phases("starting the student"):
        start_metrics = data.scorer.scores(models.student)
    return Distillation(config, source, reader, trimmed, models, data, asked, teacher_metrics, start_metrics, made_from)


def _plan(config: DistillConfig, teaching: Teaching) -> StudentPlan:
    if teaching.layer_teacher is None:
        return StudentPlan(Shape.parse(config.student), (), config.init, config.student_family)
    return plan_student(
        teaching.layer_teacher, shape=config.student, layers=config.layer_map, init=config.init, weights=config.weights,
        relation_heads=config.relation_heads, family=config.student_family,
    )  # fmt: skip


def _start(
    config: DistillConfig, teaching: Teaching, plan: StudentPlan, reader: Source, teacher: Any, data: DistillationData,
    answers: Callable[[], np.ndarray], phases: PhaseTimer,
) -> ModelPair:  # fmt: skip
    """Make the student; one that does not learn its teacher's layers starts when the teacher has answered."""
    by_answers = teaching.layer_teacher is not teacher
    if by_answers:
        with phases(TEACHER_LOGITS):
            answers()
    with phases("starting the student"):
        return initialize_student(
            plan, reader, teacher, teaching.layer_teacher, data.texts, data.task, start=teaching.start,
            answers=answers if by_answers else None, dropout=config.dropout,
            shared_projection=config.shared_projection, precision=config.precision, seed=config.seed,
        )  # fmt: skip


def answer_cache(config: DistillConfig, own: Path | None, teacher: Any, data: DistillationData) -> AnswerCache | None:
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


def train(
    config: DistillConfig, prepared: Distillation, phases: PhaseTimer, checkpoints: Checkpoints
) -> dict[str, StageResult]:
    """Run each stage that has an epoch and a loss; return their results by name."""
    models, data, weights = prepared.models, prepared.data, config.weights
    schedules = stage_schedules(config, by_layers=models.projections is not None)
    if not any(checkpoints.last(name) for name in schedules):
        say_duration(models, data, schedules, weights, config.relation_heads)
    stages: dict[str, StageResult] = {}
    if schedule := schedules.get("intermediate"):
        with phases("stage a, intermediate"):
            stages["intermediate"] = train_layers(
                "intermediate", models, data.texts, schedule, checkpoints, weights=weights,
                relation_heads=config.relation_heads,
            )  # fmt: skip
    if schedule := schedules.get("prediction"):
        with phases(TEACHER_LOGITS):
            dataset = teacher_logits_dataset(data.texts, prepared.answers(), data.train.labels)
        with phases("stage b, prediction"):
            stages["prediction"] = train_prediction(
                models.student, data, dataset, schedule, checkpoints, weights=weights, temperature=config.temperature,
                quantization_aware=config.quantization_aware,
            )  # fmt: skip
    return stages


def stage_schedules(config: DistillConfig, *, by_layers: bool) -> dict[str, TrainingSchedule]:
    """Schedule each stage that has an epoch and a loss, by name; without layers to learn from, stage b alone."""
    weights, schedules = config.weights, {}
    if by_layers and config.intermediate_epochs and any(weights[name] for name in LAYER_LOSSES):
        epochs, lr = config.intermediate_epochs, config.intermediate_lr
        schedules["intermediate"] = TrainingSchedule.from_config(config, epochs, lr)
    if config.prediction_epochs and any(weights[name] for name in PREDICTION_LOSSES):
        epochs, lr = config.prediction_epochs, config.prediction_lr
        schedules["prediction"] = TrainingSchedule.from_config(config, epochs, lr, evaluations=4)
    return schedules


def evaluate(prepared: Distillation, phases: PhaseTimer) -> ScoresBySplit:
    """Score the student and print its metric on each split, beside those of its teacher and its start."""
    data = prepared.data
    with phases("scoring the student"):
        own = data.scorer.scores_of(data.scorer.logits(prepared.models.student))
        scores = by_split(own, prepared.start_metrics, prepared.teacher_metrics)
    for split, of_split in scores.items():
        teacher, start, student = (
            100 * of_split[entry][data.task.metric] for entry in ("teacher_metrics", "start_metrics", "metrics")
        )
        echo(
            f"{split} {data.task.metric}: teacher {teacher:.2f}, student before training {start:.2f}, "
            f"student {student:.2f}"
        )
    echo(f"beside them: {yardsticks(data.task, data.train, data.splits.scored[split])}")
    if teacher > 0:
        echo(f"the student keeps {percent(student / teacher)} of the teacher (the paper: 96.8 %)")
    return scores


def write(
    config: DistillConfig, prepared: Distillation, stages: dict[str, StageResult], scores: ScoresBySplit,
    phases: PhaseTimer,
) -> Bundle:  # fmt: skip
    """Write the student with its manifest and report as a bundle to `config.out`."""
    models, data = prepared.models, prepared.data
    manifest = new_manifest(
        "student", data.task.to_dict(), max_length=data.task.max_length, parent=prepared.source.digest,
        made_from=prepared.made_from, config=config.to_dict(), seed=config.seed, data=data.digests,
    )  # fmt: skip
    put_scores(manifest, scores)
    manifest |= {
        "selection": data.scorer.selection, "layer_map": list(models.mapping),
        "stages": {name: result.to_dict() for name, result in stages.items()},
    }  # fmt: skip
    if prepared.trimmed is not None:
        manifest["vocabulary"] = prepared.trimmed.to_dict()
    report = partial(
        write_run_report, manifest, phases, models, data.scorer.encoded["dev"], data.encoder,
        truncation=data.truncation,
    )  # fmt: skip
    bundle = write_model(config.out, manifest, models.student, prepared.reader, report)
    echo(f"wrote {config.out}; how it went is in its report.html")
    return bundle
