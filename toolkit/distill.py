"""`toolkit distill`: a student learns a task from its teacher, first layer by layer, then by its answers.

Stage a (intermediate) minimises the embedding, hidden and attention losses of the mapped layers (Eq. 7 to 9), stage b
(prediction) the soft cross-entropy against the teacher's logits (Eq. 10). arXiv 1909.10351, sections 3.1 and 3.2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.bundle import Bundle, check_target, file_entry
from toolkit.checkpoint import Checkpoints, weights_digest
from toolkit.config import DistillConfig
from toolkit.console import say
from toolkit.data import Split, load_split, load_texts, resolve_task
from toolkit.errors import ToolkitError
from toolkit.fakequant import quantized
from toolkit.hub import Source, write_classifier
from toolkit.initialise import start_from_teacher
from toolkit.metrics import evaluate
from toolkit.objectives import Intermediate, Prediction
from toolkit.steps import Schedule
from toolkit.student import Projections, Shape, check_heads, depth, layer_map, student_config
from toolkit.tables import read_texts
from toolkit.tasks import Task
from toolkit.teacher import check_teacher
from toolkit.text import Encoded, sorted_batches
from toolkit.training import Fitted, Rows, fit, model_logits

SAMPLE_ROWS = 512  # for --init teacher: some 14,000 tokens of short sentences, ten for each unknown of a regression
PROJECTED_LR, FRESH_LR, PREDICTION_LR = 2e-4, 5e-5, 5e-5


@dataclass(frozen=True)
class Lesson:
    """What is taught from: the task and both splits; `texts` are those of train and the unlabelled ones, encoded.

    With --augment, `train` is the augmented rows: both stages learn from the teacher, so nobody reads their labels.
    """

    task: Task
    train: Split
    dev: Split
    texts: Encoded
    dev_encoded: Encoded

    def score(self, model: Any) -> dict[str, float]:
        """All dev metrics of a model."""
        return evaluate(self.task, model_logits(model, self.dev_encoded), self.dev.labels)

    def digests(self, config: DistillConfig) -> dict[str, str]:
        """What was learnt from and scored on: SHA-256 over the rows of both splits, and of the files beside them."""
        files = {"augment": config.augment, "unlabelled": config.unlabelled}
        found = {name: file_entry(Path(path))["sha256"] for name, path in files.items() if path}
        return {"train": self.train.digest, "dev": self.dev.digest, **found}


def run_distill(config: DistillConfig) -> Bundle:
    """Distil a task student from a fine-tuned teacher and write it as a bundle to `config.out`.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    config.check()
    check_target(Path(config.out))
    task, shape = resolve_task(config.task, config.data), Shape.parse(config.student)
    with tempfile.TemporaryDirectory() as workdir:
        source = Source(config.teacher, Path(workdir))
        teacher = source.classifier()
        if config.attention:
            check_heads(teacher, shape)
        mapping = layer_map(config.layer_map, depth(teacher), shape.layers)
        config = resolved(config, task)
        lesson = _lesson(config, task, source)
        say(f"distilling {task.name}: {len(lesson.texts):,} texts, {len(lesson.dev):,} for dev; layers {mapping}")
        teacher_metrics = check_teacher(teacher, lesson.task, lesson.dev_encoded, lesson.dev.labels, config)
        student, projections = _start(config, shape, source, teacher, mapping, lesson)
        start = lesson.score(student)
        with Checkpoints(config.to_json(), _inputs(config, lesson, teacher, student)) as checkpoints:
            stages = _teach(config, lesson, teacher, student, projections, mapping, checkpoints)
            metrics = lesson.score(student)
            manifest = {
                "kind": "student", "task": lesson.task.to_json(), "precision": "fp32",
                "max_length": lesson.task.max_length, "parent": source.digest, "config": config.to_json(),
                "seed": config.seed, "metrics": metrics, "teacher_metrics": teacher_metrics, "start_metrics": start,
                "layer_map": list(mapping), "data": lesson.digests(config),
                "stages": {name: fitted.to_json() for name, fitted in stages.items()},
            }  # fmt: skip
            bundle = write_classifier(config.out, manifest, student, source)
    _summary(task, teacher_metrics, start, metrics)
    say(f"wrote {config.out}")
    return bundle


def resolved(config: DistillConfig, task: Task) -> DistillConfig:
    """The configuration with nothing left to be worked out: epochs from the task, rates from the initialisation."""
    projected = config.init == "teacher"
    return replace(
        config,
        intermediate_epochs=_first(config.intermediate_epochs, task.intermediate_epochs),
        intermediate_lr=_first(config.intermediate_lr, PROJECTED_LR if projected else FRESH_LR),
        prediction_epochs=_first(config.prediction_epochs, task.prediction_epochs),
        prediction_lr=_first(config.prediction_lr, PREDICTION_LR),
        student=STUDENT_TEXT.format(**vars(Shape.parse(config.student))),
    )


STUDENT_TEXT = "{layers}/{hidden}/{ffn}/{heads}"


def _first(given: Any, default: Any) -> Any:
    return default if given is None else given


def _lesson(config: DistillConfig, task: Task, source: Source) -> Lesson:
    train = load_texts(task, config.augment) if config.augment else load_split(task, "train", config.data)
    dev = load_split(task, "dev", config.data)
    train = train.head(config.max_rows or len(train), config.seed)
    stored = source.bundle.max_length if source.bundle else None
    encoder = source.encoder(task, config.max_length or stored)
    task = replace(task, max_length=encoder.max_length)
    texts, pairs = train.texts, train.pairs
    if config.unlabelled:
        more, other = read_texts(Path(config.unlabelled), pairs=pairs is not None)
        texts, pairs = texts + more, None if pairs is None or other is None else pairs + other
    return Lesson(task, train, dev, encoder.encode(texts, pairs), encoder.encode(dev.texts, dev.pairs))


def _start(
    config: DistillConfig, shape: Shape, source: Source, teacher: Any, mapping: Sequence[int], lesson: Lesson
) -> tuple[Any, Projections]:
    """The student and its projections before training."""
    from transformers import BertForSequenceClassification

    torch.manual_seed(config.seed)
    wanted = student_config(source.config, shape, dropout=config.dropout, task=lesson.task)
    projections = Projections(
        shape.layers + 1, shape.hidden, teacher.config.hidden_size, shared=config.shared_projection
    )
    if config.init not in ("teacher", "random"):
        return _load_student(config.init, wanted), projections
    student = BertForSequenceClassification(wanted).eval()
    if config.init == "teacher":
        random = np.random.default_rng(config.seed)
        chosen = random.permutation(len(lesson.texts))[:SAMPLE_ROWS]
        lengths = lesson.texts.lengths[chosen]
        batches = [lesson.texts.batch(chosen[rows]) for rows in sorted_batches(lengths, 64)]
        sample = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]
        projections.start_from(start_from_teacher(student, teacher.cpu(), mapping, sample))
    return student, projections


def _load_student(directory: str, wanted: Any) -> Any:
    """A student's weights from a bundle or directory of the same shape; a missing head is drawn new."""
    from transformers import BertForSequenceClassification

    try:
        return BertForSequenceClassification.from_pretrained(directory, config=wanted, use_safetensors=True).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ToolkitError(
            f"--init {directory} does not hold this student: {str(error).strip().splitlines()[0]}",
            expected="teacher, random, or a directory with a BERT of the same shape and vocabulary",
        ) from error


def _inputs(config: DistillConfig, lesson: Lesson, teacher: Any, student: Any) -> dict[str, str]:
    """Digests of what the options name: a run goes on only from checkpoints of the same."""
    found = lesson.digests(config) | {"teacher": weights_digest(teacher)}
    return found if config.init in ("teacher", "random") else found | {"init": weights_digest(student)}


def _teach(
    config: DistillConfig, lesson: Lesson, teacher: Any, student: Any, projections: Projections,
    mapping: Sequence[int], checkpoints: Checkpoints,
) -> dict[str, Fitted]:  # fmt: skip
    """Both stages, those that have an epoch and a loss; what each did, by name."""
    stages: dict[str, Fitted] = {}
    weights = {name: float(getattr(config, name)) for name in ("attention", "hidden", "embedding")}
    assert config.intermediate_epochs is not None
    assert config.prediction_epochs is not None
    if config.intermediate_epochs and any(weights.values()):
        objective = Intermediate(student, teacher, projections, mapping, weights)
        schedule = _schedule(config, config.intermediate_epochs, config.intermediate_lr)
        rows = Rows(lesson.texts)
        # no dev metric selects here: the head is not being trained, so the last step is the one to keep
        stages["intermediate"] = fit(
            objective, rows, schedule, name="intermediate", model=student, evaluate=None, checkpoints=checkpoints
        )
        objective.close()
    if config.prediction_epochs and config.prediction:
        rows = Rows(lesson.texts, model_logits(teacher, lesson.texts))
        schedule = replace(_schedule(config, config.prediction_epochs, config.prediction_lr), evaluations=4)
        with quantized(student) if config.quantization_aware else nullcontext():
            stages["prediction"] = fit(
                Prediction(student, lesson.task.kind, config.temperature), rows, schedule, name="prediction",
                model=student, evaluate=lambda: lesson.score(student)[lesson.task.metric], checkpoints=checkpoints,
            )  # fmt: skip
    return stages


def _schedule(config: DistillConfig, epochs: int, lr: float | None) -> Schedule:
    assert lr is not None
    return Schedule(
        epochs, lr, config.batch_size, config.warmup, config.weight_decay, config.seed, patience=config.patience,
        accumulation=config.accumulation, precision=config.precision,
    )  # fmt: skip


def _summary(task: Task, teacher: dict[str, float], start: dict[str, float], student: dict[str, float]) -> None:
    t, s, m = (100 * metrics[task.metric] for metrics in (teacher, start, student))
    say(f"dev {task.metric}: teacher {t:.2f}, student before training {s:.2f}, student {m:.2f}")
    if t > 0:
        say(f"the student keeps {100 * m / t:.1f} % of the teacher (the paper: 96.8 %)")
