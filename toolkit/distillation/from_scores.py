"""`toolkit distill --teacher-scores` without a teacher: stage b from a file of answers, whatever made it.

A teacher on one machine and a student on another need only this file between them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.manifest import ScoredSplit
from toolkit.bundle.provenance import check_output, origin
from toolkit.bundle.scores import by_split, put_scores
from toolkit.config import DistillConfig
from toolkit.console import echo
from toolkit.data.truncation import say_truncation
from toolkit.distillation.data import teacher_logits_dataset
from toolkit.distillation.initialization.encoder import open_encoder
from toolkit.distillation.initialization.student import ModelPair, initialize_student, is_student
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.distillation.scored_data import ScoredData, load_scored
from toolkit.distillation.stages import train_prediction
from toolkit.distillation.teaching import open_start
from toolkit.models.families import depth, student_type
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan, layer_map
from toolkit.models.trimming import trim_model
from toolkit.reports.table import percent
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageResult


@dataclass(frozen=True)
class Learning:
    """A student and the answers that it learns from.

    Attributes:
        models: the student, a classifier in eval mode.
        scored: the rows and the answers.
        start_metrics: of the student by split, before training.
    """

    models: ModelPair
    scored: ScoredData
    start_metrics: dict[ScoredSplit, dict[str, float]]


def run_from_scores(config: DistillConfig) -> Bundle:
    """Train a student on the answers in `config.teacher_scores` and write it, with its report, to `config.out`.

    Raises:
        ToolkitError: options, answers, data or a model that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_output(config, config.sources)
    config, phases = config.resolved(), PhaseTimer()
    with tempfile.TemporaryDirectory() as workdir:
        learning = prepare(config, Path(workdir), phases)
        data = learning.scored.data
        start = {} if config.init == "random" else {"init": weights_digest(learning.models.student)}
        with Checkpoints(config.to_dict(), data.digests | start) as checkpoints:
            stages: dict[str, StageResult] = {}
            if config.prediction_epochs:
                schedule = TrainingSchedule.from_config(
                    config, config.prediction_epochs, config.prediction_lr, evaluations=4
                )
                dataset = teacher_logits_dataset(data.texts, learning.scored.logits, data.train.labels[:0])
                with phases("stage b, prediction"):
                    stages["prediction"] = train_prediction(
                        learning.models.student, data, dataset, schedule, checkpoints, weights=config.weights,
                        temperature=config.temperature, quantization_aware=config.quantization_aware,
                    )  # fmt: skip
            return finish(config, learning, stages, phases)


def prepare(config: DistillConfig, workdir: Path, phases: PhaseTimer) -> Learning:
    """Read the answers and the model to start from, and initialize the student."""
    with phases("reading models and data"):
        name = config.student_tokenizer or config.init
        source = open_start(name, workdir)
        student_type(config.student_family, source.config)
        scored = load_scored(config, source, workdir)
        data = scored.data
        data.splits.check_patience(config.patience)
    echo(f"learning {data.task.name} from {config.teacher_scores}: {len(data.texts):,} texts, {data.splits.describe()}")
    for split, truncation in data.truncation.items():
        say_truncation(split, truncation)
    with phases("starting the student"):
        models = start_student(config, source, scored)
        start_metrics = data.scorer.scores(models.student)
    return Learning(models, scored, start_metrics)


def start_student(config: DistillConfig, source: Source, scored: ScoredData) -> ModelPair:
    """Make the student: drawn, with the weights of one of its shape, or projected from an encoder."""
    data, encoder = scored.data, None
    plan = StudentPlan(Shape.parse(config.student), (), config.init, config.student_family)
    named = None if config.init == "random" else source
    if named is not None and not is_student(named, plan):
        encoder = open_encoder(named, plan.shape, config.init)
        plan = replace(plan, mapping=layer_map(config.layer_map, depth(encoder), plan.shape.layers))
        if scored.trimmed is not None:
            trim_model(scored.trimmed, encoder)
    models = initialize_student(
        plan, scored.reader, None, encoder, data.texts, data.task, start=named, answers=lambda: scored.logits,
        dropout=config.dropout, precision=config.precision, seed=config.seed,
    )  # fmt: skip
    return replace(models, layer_teacher=None, projections=None, mapping=())


def finish(config: DistillConfig, learning: Learning, stages: dict[str, StageResult], phases: PhaseTimer) -> Bundle:
    """Score the student on dev, say how often it agrees with the teacher, and write it as a bundle to `config.out`."""
    scored, data = learning.scored, learning.scored.data
    with phases("scoring the student"):
        logits = data.scorer.logits(learning.models.student)
        agreement = scored.agreement(logits["dev"])
    manifest = new_manifest(
        "student", data.task.to_dict(), max_length=data.task.max_length, parent=None,
        made_from={} if config.init == "random" else {"start": origin(config.init)}, config=config.to_dict(),
        seed=config.seed, data=data.digests,
    )  # fmt: skip
    scores = by_split(data.scorer.scores_of(logits), learning.start_metrics, {"dev": scored.teacher_metrics()})
    put_scores(manifest, scores)
    manifest |= {
        "selection": data.scorer.selection, "layer_map": [],
        "stages": {name: result.to_dict() for name, result in stages.items()},
    }  # fmt: skip
    if scored.trimmed is not None:
        manifest["vocabulary"] = scored.trimmed.to_dict()
    metric = data.task.metric
    for split, of_split in scores.items():
        names = {"teacher": "teacher_metrics", "student before training": "start_metrics", "student": "metrics"}
        say = [f"{name} {100 * of_split[key][metric]:.2f}" for name, key in names.items() if of_split[key]]  # type: ignore[literal-required]
        echo(f"{split} {metric}: {', '.join(say)}")
    if agreement is not None:
        manifest["agreement"] = agreement
        what = "correlates with the teacher by" if data.task.kind == "regression" else "gives the teacher's answer to"
        echo(f"the student {what} {percent(agreement)} of {len(scored.dev_rows):,} dev rows")
    report = partial(
        write_run_report, manifest, phases, learning.models, data.scorer.encoded["dev"], data.encoder,
        truncation=data.truncation,
    )  # fmt: skip
    bundle = write_model(config.out, manifest, learning.models.student, scored.reader, report)
    echo(f"wrote {config.out}; how it went is in its report.html")
    return bundle
