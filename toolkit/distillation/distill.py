"""`toolkit distill`: a student learns a task from its teacher, first layer by layer, then by its answers.

Stage a (intermediate) minimises the losses of the mapped layers (Eq. 7 to 9), stage b (prediction) the soft
cross-entropy against the teacher's logits (Eq. 10). arXiv 1909.10351, sections 3.1 and 3.2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.bundle.format import Bundle, check_output_path
from toolkit.config import LAYER_LOSSES, DistillConfig
from toolkit.console import echo
from toolkit.data.datasets import resolve_task
from toolkit.distillation.attention_maps import attention_maps, describe
from toolkit.distillation.data import DistillationData, TeacherLogitsDataset, load_data
from toolkit.distillation.initialization.student import initialize_student, provenance_of
from toolkit.distillation.objectives import IntermediateObjective, PredictionObjective, check_models
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.distillation.teacher_check import check_teacher
from toolkit.models.families import depth
from toolkit.models.loading import Source
from toolkit.models.student import Projections, Shape, layer_map
from toolkit.tasks import Task
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.distributed import distributed_state, model_logits
from toolkit.training.fake_quantization import fake_quantized
from toolkit.training.precision import bf16_frozen_weights, bf16_matmul, resolve_precision
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import EncodedDataset, StageResult, fit


def run_distill(config: DistillConfig) -> Bundle:
    """Distil a task student from a fine-tuned teacher and write it, with its report, as a bundle to `config.out`.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    config.check()
    check_output_path(Path(config.out))
    config, phases = config.resolved(), PhaseTimer()
    with tempfile.TemporaryDirectory() as workdir:
        with phases("reading models and data"):
            task = resolve_task(str(config.task), config.data)
            source = Source(config.teacher, Path(workdir))
            teacher = source.classifier()
            check_models(config, source.config, teacher)
            mapping = layer_map(config.layer_map, depth(teacher), Shape.parse(config.student).layers)
            lesson = load_data(config, task, source)
        echo(f"distilling {task.name}: {len(lesson.texts):,} texts, {len(lesson.dev):,} for dev; layers {mapping}")
        with phases("scoring the teacher"):
            teacher_metrics = check_teacher(teacher, lesson.task, lesson.dev_encoded, lesson.dev.labels, config)
        with phases("starting the student"):
            student, projections = initialize_student(config, source, teacher, mapping, lesson.texts, lesson.task)
            start = lesson.score(student)
        made_from = provenance_of(config, source)  # before hours of training: a damaged bundle is refused here
        with Checkpoints(config.to_dict(), _inputs(config, lesson, teacher, student)) as checkpoints:
            stages = train_stages(config, lesson, teacher, student, projections, mapping, phases, checkpoints)
            with phases("scoring the student"):
                metrics = lesson.score(student)
            manifest = {
                "kind": "student", "task": lesson.task.to_dict(), "precision": "fp32",
                "max_length": lesson.task.max_length, "parent": source.digest, "config": config.to_dict(),
                "made_from": made_from, "seed": config.seed, "metrics": metrics, "start_metrics": start,
                "teacher_metrics": teacher_metrics, "layer_map": list(mapping), "data": lesson.digests(config),
                "stages": {name: fitted.to_dict() for name, fitted in stages.items()},
            }  # fmt: skip
            shown = describe(student, teacher)
            shown["attention"] = attention_maps(student, teacher, mapping, lesson.dev_encoded, lesson.encoder.tokens)
            report = partial(write_run_report, manifest, phases, shown)
            bundle = write_model(config.out, manifest, student, source, report)
    _summary(task, teacher_metrics, start, metrics)
    echo(f"wrote {config.out}; how it went is in its report.html")
    return bundle


def _inputs(config: DistillConfig, lesson: DistillationData, teacher: Any, student: Any) -> dict[str, str]:
    """Digests of what the options name: a run goes on only from checkpoints of the same."""
    found = lesson.digests(config) | {"teacher": weights_digest(teacher)}
    return found if config.init in ("teacher", "random") else found | {"init": weights_digest(student)}


def train_stages(
    config: DistillConfig, lesson: DistillationData, teacher: Any, student: Any, projections: Projections,
    mapping: Sequence[int], phases: PhaseTimer, checkpoints: Checkpoints,
) -> dict[str, StageResult]:  # fmt: skip
    """Both stages, those that have an epoch and a loss; what each did, by name."""
    stages: dict[str, StageResult] = {}
    weights, device = config.weights, distributed_state().device
    precision = resolve_precision(config.precision, device, float(lesson.texts.lengths.mean()))
    if config.intermediate_epochs and any(weights[name] for name in LAYER_LOSSES):
        objective = IntermediateObjective(student, teacher, projections, mapping, weights, config.relation_heads)
        with phases("stage a, intermediate"), bf16_frozen_weights(teacher, precision, device):
            # no dev metric selects here: the head is not being trained, so the last step is the one to keep
            stages["intermediate"] = fit(
                objective, EncodedDataset(lesson.texts),
                TrainingSchedule.from_config(config, config.intermediate_epochs, config.intermediate_lr),
                name="intermediate", model=student, evaluate=None, checkpoints=checkpoints,
            )  # fmt: skip
        objective.close()
    if config.prediction_epochs and (weights["prediction"] or weights["label"]):
        with (
            phases(name := "the teacher's answers"),
            bf16_matmul(precision, device),
            bf16_frozen_weights(teacher, precision, device),
        ):
            rows = TeacherLogitsDataset(lesson.texts, model_logits(teacher, lesson.texts, name), lesson.train.labels)
        if weights["label"] and len(lesson.texts) > len(lesson.train):
            echo(f"the label loss sees {len(lesson.train):,} of {len(lesson.texts):,} texts: the unlabelled have none")
        answers = PredictionObjective(
            student, lesson.task.kind, config.temperature, prediction=weights["prediction"], label=weights["label"]
        )
        learning = TrainingSchedule.from_config(config, config.prediction_epochs, config.prediction_lr, evaluations=4)
        if config.quantization_aware and config.precision == "auto":
            learning = replace(learning, precision="fp32")  # bf16 has no room for the whole numbers of int8
        with phases("stage b, prediction"), fake_quantized(student) if config.quantization_aware else nullcontext():
            stages["prediction"] = fit(
                answers, rows, learning, name="prediction", model=student,
                evaluate=lambda: lesson.score(student)[lesson.task.metric], checkpoints=checkpoints,
            )  # fmt: skip
    return stages


def _summary(task: Task, teacher: dict[str, float], start: dict[str, float], student: dict[str, float]) -> None:
    t, s, m = (100 * metrics[task.metric] for metrics in (teacher, start, student))
    echo(f"dev {task.metric}: teacher {t:.2f}, student before training {s:.2f}, student {m:.2f}")
    if t > 0:
        echo(f"the student keeps {100 * m / t:.1f} % of the teacher (the paper: 96.8 %)")
