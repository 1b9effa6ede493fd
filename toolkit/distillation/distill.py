"""`toolkit distill`: a student learns a task from its teacher, first layer by layer, then from its logits.

Stage a (intermediate) minimises the losses of the mapped layers (Eq. 7 to 9), stage b (prediction) the soft
cross-entropy against the teacher's logits (Eq. 10). arXiv 1909.10351, sections 3.1 and 3.2.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.manifest import Metrics, Origin, ScoredSplit
from toolkit.bundle.provenance import check_output
from toolkit.bundle.scores import ScoresBySplit, by_split, put_scores
from toolkit.config import LAYER_LOSSES, PREDICTION_LOSSES, DistillConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.distillation.data import TEACHER_LOGITS, DistillationData, student_data, teacher_logits_dataset
from toolkit.distillation.duration import say_duration
from toolkit.distillation.initialization.student import ModelPair, initialize_student, provenance_of
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.distillation.rows import TaskRows
from toolkit.distillation.scored_rows import load_scored
from toolkit.distillation.stages import train_layers, train_prediction
from toolkit.distillation.teacher import Teacher, open_teacher
from toolkit.distillation.teaching import Teaching, plan_teaching
from toolkit.reports.table import percent
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.reference import yardsticks
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageResult


@dataclass(frozen=True)
class Distillation:
    """Models and data of a distillation, ready to train.

    Attributes:
        config: the options, with what the models decide.
        data: the rows to learn from and to score on, as the student reads them.
        teacher: its answers and metrics.
        models: the student, and the models that it learns from.
        start_metrics: of the student before training, by split.
        made_from, parent: provenance, for the manifest.
    """

    config: DistillConfig
    data: DistillationData
    teacher: Teacher
    models: ModelPair
    start_metrics: dict[ScoredSplit, Metrics]
    made_from: dict[str, Origin]
    parent: str | None


def run_distill(config: DistillConfig, answers: Path | None = None) -> Bundle:
    """Distil a task student from a fine-tuned teacher and write it, with its report, as a bundle to `config.out`.

    Args:
        config: options; without a teacher the student learns from the file of answers that they name.
        answers: file that keeps the teacher's answers, where the options name none.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    config.check()
    check_output(config, config.sources)
    config, phases = config.resolved(), PhaseTimer()
    with tempfile.TemporaryDirectory() as workdir:
        prepared = prepare(config, Path(workdir), phases, answers)
        inputs = prepared.data.digests | prepared.models.digests()
        with Checkpoints(prepared.config.to_dict(), inputs) as checkpoints:
            stages = train(prepared, phases, checkpoints)
            scores, agreement = evaluate(prepared, phases)
            return write(prepared, stages, scores, agreement, phases)


def prepare(config: DistillConfig, workdir: Path, phases: PhaseTimer, answers: Path | None = None) -> Distillation:
    """Read models and data, check the teacher, and initialize the student; `answers` keeps the teacher's answers."""
    with phases("reading models and data"):
        teaching = plan_teaching(config, workdir)
        config = config.started(projected=teaching.projected)
        rows = load_scored(config) if teaching.source is None else _task_rows(config, teaching)
        length = config.max_length or teaching.max_length
        data = student_data(rows, teaching.reader, length, config.vocabulary_limit, workdir)
        data.splits.check_patience(config.patience)
        made_from = provenance_of(teaching.source, config.init)  # a damaged bundle is refused before hours of training
    data.announce(teaching.plan.mapping)
    with phases("scoring the teacher"):
        teacher = open_teacher(config, teaching, rows, data, answers)
    if teaching.by_answers:
        with phases(TEACHER_LOGITS):
            teacher.answers()
    with phases("starting the student"):
        models = initialize_student(
            teaching.plan, data.reader, teaching.teacher, teaching.layer_teacher, data.texts, data.task,
            start=teaching.start, answers=teacher.answers if teaching.by_answers else None, dropout=config.dropout,
            shared_projection=config.shared_projection, precision=config.precision, seed=config.seed,
        )  # fmt: skip
        start_metrics = data.scorer.scores(models.student)
    parent = None if teaching.source is None else teaching.source.digest
    return Distillation(config, data, teacher, models, start_metrics, made_from, parent)


def _task_rows(config: DistillConfig, teaching: Teaching) -> TaskRows:
    return TaskRows.load(
        teaching.outputs, str(config.task), config.data, augment=config.augment, unlabelled=config.unlabelled,
        selection_rows=config.selection_rows, max_rows=config.max_rows, seed=config.seed,
        options=DataOptions.of(config), title=config.name,
    )  # fmt: skip


def train(prepared: Distillation, phases: PhaseTimer, checkpoints: Checkpoints) -> dict[str, StageResult]:
    """Run each stage that has an epoch and a loss; return their results by name."""
    config, models, data, weights = prepared.config, prepared.models, prepared.data, prepared.config.weights
    schedules = stage_schedules(config, by_layers=models.projections is not None)
    if not any(checkpoints.last(name) for name in schedules):
        say_duration(models, data, schedules, weights, config.relation_heads, prepared.teacher.unanswered)
    stages: dict[str, StageResult] = {}
    if schedule := schedules.get("intermediate"):
        with phases("stage a, intermediate"):
            stages["intermediate"] = train_layers(
                "intermediate", models, data.texts, schedule, checkpoints, weights=weights,
                relation_heads=config.relation_heads,
            )  # fmt: skip
    if schedule := schedules.get("prediction"):
        with phases(TEACHER_LOGITS):
            dataset = teacher_logits_dataset(data.texts, prepared.teacher.answers(), data.train.labels)
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


def evaluate(prepared: Distillation, phases: PhaseTimer) -> tuple[ScoresBySplit, float | None]:
    """Score the student and say how it stands beside its teacher; return its scores and its agreement on dev."""
    data, teacher = prepared.data, prepared.teacher
    with phases("scoring the student"):
        logits = data.scorer.logits(prepared.models.student)
    scores = by_split(data.scorer.scores_of(logits), prepared.start_metrics, teacher.metrics)
    metric, reported = data.task.metric, data.splits.reported
    for split, of_split in scores.items():
        columns = {
            "teacher": of_split["teacher_metrics"], "student before training": of_split["start_metrics"],
            "student": of_split["metrics"],
        }  # fmt: skip
        values = (f"{name} {100 * metrics[metric]:.2f}" for name, metrics in columns.items() if metrics)
        echo(f"{split} {metric}: {', '.join(values)}")
    if prepared.models.teacher is not None:  # else the labels of the training rows are not known
        echo(f"beside them: {yardsticks(data.task, data.train, data.splits.scored[reported])}")
    teacher_score = teacher.metrics.get(reported, {}).get(metric, 0.0)
    if teacher_score > 0:
        kept = percent(scores[reported]["metrics"][metric] / teacher_score)
        echo(f"the student keeps {kept} of the teacher (the paper: 96.8 %)")
    agreement = teacher.agreement(logits["dev"])
    if agreement is not None:
        dev = f"{len(teacher.dev_rows):,} dev rows"
        if data.task.kind == "regression":
            echo(f"the student's numbers correlate with the teacher's by {percent(agreement)} on {dev}")
        else:
            echo(f"the student gives the teacher's answer to {percent(agreement)} of {dev}")
    return scores, agreement


def write(
    prepared: Distillation, stages: dict[str, StageResult], scores: ScoresBySplit, agreement: float | None,
    phases: PhaseTimer,
) -> Bundle:  # fmt: skip
    """Write the student with its manifest and report as a bundle to `config.out`."""
    config, models, data = prepared.config, prepared.models, prepared.data
    manifest = new_manifest(
        "student", data.task.to_dict(), max_length=data.task.max_length, parent=prepared.parent,
        made_from=prepared.made_from, config=config.to_dict(), seed=config.seed, data=data.digests,
    )  # fmt: skip
    put_scores(manifest, scores)
    manifest |= {
        "selection": data.scorer.selection, "layer_map": list(models.mapping),
        "stages": {name: result.to_dict() for name, result in stages.items()},
    }  # fmt: skip
    if agreement is not None:
        manifest["agreement"] = agreement
    if data.trimmed is not None:
        manifest["vocabulary"] = data.trimmed.to_dict()
    report = partial(
        write_run_report, manifest, phases, models, data.scorer.encoded["dev"], data.encoder,
        truncation=data.truncation,
    )  # fmt: skip
    bundle = write_model(config.out, manifest, models.student, data.reader, report)
    echo(f"wrote {config.out}; how it went is in its report.html")
    return bundle
