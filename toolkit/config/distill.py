"""Options of `toolkit distill`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from toolkit.config.base import (
    PRECISION_HELP,
    Config,
    at_least,
    column_option,
    dev_share_option,
    fraction,
    name_option,
    option,
    overwrite_option,
    positive,
    required,
    selection_option,
    skip_option,
    training_problems,
)
from toolkit.config.losses import LOSSES, OBJECTIVES, PREDICTION_LOSSES, loss_problems, parse_weights
from toolkit.config.teacher_scores import teacher_problems
from toolkit.tasks import TASKS, Task

STUDENTS = {"tinybert4": "4/312/1200/12", "tinybert6": "6/768/3072/12"}
STUDENT_FAMILIES = ("auto", "bert", "teacher")
COMPUTED = ("teacher", "random")  # values of --init that name no model
LAYER_MAPS = ("uniform", "top", "bottom")
PROJECTED_LR, FRESH_LR, PREDICTION_LR = 2e-4, 5e-5, 5e-5
# a projected student has these layers nearly; ten epochs of them add nothing (docs/distillation.md)
PROJECTED_EPOCHS = 3
GENERAL_EPOCHS, GENERAL_ACCUMULATION = 3, 8  # of 32 rows: the paper's 256
TASK_OPTIONS = (
    "task", "data", "unlabelled", "augment", "temperature", "prediction_epochs", "prediction_lr", "allow_weak_teacher",
    "match_labels", "quantization_aware", "patience", "seeds", "selection_rows", "skip_bad_rows",
    "text_column", "name", "teacher_scores", "pair_column", "label_column", "dev_share", "student_tokenizer",
    "vocabulary_limit",
)  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class DistillConfig(Config):
    """Options of `toolkit distill`."""

    decided_late = ("intermediate_epochs", "intermediate_lr")

    teacher: str | None = required(
        "model to learn from: a bundle, a directory or a name on the hub", "Teacher and student", "DIR",
        unless="teacher-scores",
    )  # fmt: skip
    task: str | None = required(
        "task of the teacher: a GLUE task, rotten-tomatoes, or auto with --data", "Data", "TASK", unless="general"
    )
    out: str = required("directory to write the student bundle to", "Output", "DIR")
    data: str | None = option(None, "folder with train, dev, perhaps test files, one file, or hub:NAME", "Data", "DATA")
    name: str | None = name_option()
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    unlabelled: str | None = option(
        None,
        "more text of the task's kind, without labels: .txt, one a line, or a table with a column text",
        "Data",
        "FILE",
    )
    augment: str | None = option(
        None, "rows made by toolkit augment, to learn from instead of the plain ones", "Data", "FILE"
    )
    general: bool = option(False, "general distillation: from any encoder, on plain text, without a task", "Data")
    corpus: tuple[str, ...] = option(
        (),
        "text for --general: a .txt or .txt.gz file or glob, or a dataset NAME or NAME:CONFIG; may be repeated",
        "Data",
        "FILE",
    )
    teacher_scores: str | None = option(
        None,
        "answers of a teacher, as toolkit score writes them: alone they are what the student learns from; beside "
        "--teacher the teacher's answers to the training texts, kept here for the next run",
        "Teacher and student",
        "FILE",
    )
    smoothing: float = option(
        0.1, "probability that --teacher-scores of labels alone leave to the other labels", "Losses", "P"
    )
    student: str = option(
        "tinybert4",
        "tinybert4 (4/312/1200/12), tinybert6 (6/768/3072/12) or LAYERS/HIDDEN/FFN/HEADS",
        "Teacher and student",
        "SHAPE",
    )
    student_tokenizer: str | None = option(
        None,
        "model whose word pieces the student reads, with --init random: with others than the teacher's it learns from "
        "the answers only [default: those of --init ENCODER, else the teacher's]",
        "Teacher and student", "DIR",
    )  # fmt: skip
    vocabulary_limit: int = option(
        60_000, "pieces up to which the student's vocabulary stays whole; a larger one is cut to the pieces of the "
        "texts that the student learns from, and single characters", "Teacher and student",
    )  # fmt: skip
    student_family: str = option(
        "auto",
        "architecture of the student: bert, teacher (the teacher's own), or auto: bert, but MPNet's for an MPNet "
        "teacher, whose relative positions a BERT has no place for",
        "Teacher and student",
        "FAMILY",
    )
    init: str = option(
        "teacher",
        "start of the student: teacher (its low-rank projection), random, or a model: a bundle such as --general "
        "writes, a released TinyBERT (with other word pieces than the teacher's it learns the answers only), or a "
        "larger encoder, which is projected, and whose layers the student learns instead of the teacher's",
        "Teacher and student",
        "START",
    )
    layer_map: str = option(
        "uniform", "layers to learn from: uniform, top, bottom or a list such as 3,6,9,12", "Losses", "LAYERS"
    )
    shared_projection: bool = option(
        False, "one projection to the teacher's width for all layers instead of one each", "Losses"
    )
    objective: str = option(
        "tinybert", "losses to minimise: tinybert (attention, hidden, embedding, prediction), relations (MiniLMv2's, "
        "and prediction; heads may differ) or prediction", "Losses", "NAME"
    )  # fmt: skip
    loss: str | None = option(
        None, "weights in place of the objective's, as in attention=1,hidden=1,embedding=1,prediction=1; 0 switches a "
        "loss off; also relations, and label: the data's own labels", "Losses", "WEIGHTS"
    )  # fmt: skip
    relation_heads: int | None = option(
        None,
        "heads that relations are split into [default: the most, up to 48, that divide both widths]",
        "Losses",
        "N",
    )
    temperature: float = option(1.0, "temperature of the prediction loss, which is scaled by T^2", "Losses", "T")
    intermediate_epochs: int | None = option(
        None, "passes of the layer-by-layer stage [default: 3 of a projected student, else the paper's]", "Training"
    )
    intermediate_lr: float | None = option(
        None,
        "learning rate of the layer-by-layer stage [default: 2e-4 of a task's projected student, else 5e-5]",
        "Training",
        "RATE",
    )
    prediction_epochs: int | None = option(None, "passes of the prediction stage [default: the task's]", "Training")
    prediction_lr: float | None = option(
        None, "learning rate of the prediction stage [default: 5e-5]", "Training", "RATE"
    )
    quantization_aware: bool = option(
        False, "compute the prediction stage in the arithmetic of the int8 export", "Training"
    )
    batch_size: int = option(32, "rows of one batch in each process", "Training")
    warmup: float = option(0.1, "fraction of the steps in which the learning rate rises", "Training")
    weight_decay: float = option(0.01, "weight decay of AdamW, on matrices only", "Training")
    dropout: float = option(0.0, "dropout of the student in training", "Training")
    max_length: int | None = option(
        None,
        "tokens at which texts are cut [default: the teacher's, a plain model's up to 512]; with --general, of each "
        "row [default: 128]",
        "Data",
    )
    max_rows: int | None = option(
        None, "learn from a random subset of this many rows, with --general the first ones [default: all]", "Data"
    )
    selection_rows: int | None = selection_option()
    skip_bad_rows: bool = skip_option()
    allow_weak_teacher: bool = option(
        False, "accept a teacher that is no better than the most frequent label", "Teacher and student"
    )
    match_labels: bool = option(
        False, "read the teacher's outputs in the order that fits the labels",
        "Teacher and student",
    )  # fmt: skip
    patience: int | None = option(
        None, "end stage b after this many evaluations without a new best, 4 an epoch [default: half of them for "
        "auto, but never of --init random]", "Training",
    )  # fmt: skip
    accumulation: int | None = option(
        None, "batches whose gradients are summed for one step [default: 1; 8 with --general]", "Training"
    )
    precision: str = option("auto", PRECISION_HELP, "Training")
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]", "Output"
    )
    seed: int = option(42, "seed of every random draw", "Training")
    seeds: str | None = option(
        None, "one student for each seed, as in 1,2,3: in OUT/seed-1 and so on, with summary.json", "Output", "SEEDS"
    )
    overwrite: bool = overwrite_option()

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss by name: the objective's, and in their place those that --loss gives."""
        weights = dict.fromkeys(LOSSES, 0.0)
        weights |= dict.fromkeys(OBJECTIVES[self.objective], 1.0)
        if self.general:
            weights |= dict.fromkeys(PREDICTION_LOSSES, 0.0)
        return weights | parse_weights(self.loss or "")

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that the student is made from, as the options name them."""
        models = (self.teacher, None if self.init in COMPUTED else self.init, self.student_tokenizer)
        return tuple(name for name in models if name is not None)

    @property
    def scores_alone(self) -> bool:
        """Tell whether the student learns from a file of answers, with no teacher at hand."""
        return self.teacher is None and self.teacher_scores is not None

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from training_problems(self, self.teacher_scores if self.scores_alone else self.data)
        yield from at_least(0, intermediate_epochs=self.intermediate_epochs, prediction_epochs=self.prediction_epochs)
        yield from positive(intermediate_lr=self.intermediate_lr, prediction_lr=self.prediction_lr)
        yield from positive(temperature=self.temperature)
        yield from at_least(1, vocabulary_limit=self.vocabulary_limit)
        yield from fraction(dropout=self.dropout, smoothing=self.smoothing)
        yield from teacher_problems(self)
        yield from loss_problems(self)
        yield from self._general_problems() if self.general else self._task_problems()
        if self.student not in STUDENTS and not re.fullmatch(r"\d+/\d+/\d+/\d+", self.student):
            shapes = f"{', '.join(STUDENTS)} or LAYERS/HIDDEN/FFN/HEADS such as 4/312/1200/12"
            yield f"--student {self.student}: expected {shapes}"
        if self.student_family not in STUDENT_FAMILIES:
            yield f"--student-family {self.student_family}: expected one of {', '.join(STUDENT_FAMILIES)}"
        if self.layer_map not in LAYER_MAPS and not re.fullmatch(r"\d+(,\d+)*", self.layer_map):
            yield f"--layer-map {self.layer_map}: expected {', '.join(LAYER_MAPS)} or a list such as 3,6,9,12"

    def _task_problems(self) -> Iterator[str]:
        if self.task is None:
            yield "no --task: expected a GLUE task, rotten-tomatoes, or auto with --data or --teacher-scores"
        if self.corpus:
            yield "--corpus is what --general learns from; a task takes more text by --unlabelled"
        if self.seeds is not None and not re.fullmatch(r"\d+(,\d+)*", self.seeds):
            yield f"--seeds {self.seeds}: expected a list such as 1,2,3"

    def _general_problems(self) -> Iterator[str]:
        defaults = {field.name: field.default for field in fields(self)} | {"task": None}
        weights = parse_weights(self.loss or "")
        options = [f"--{name.replace('_', '-')}" for name in TASK_OPTIONS if getattr(self, name) != defaults[name]]
        options += [f"--loss {name}" for name in PREDICTION_LOSSES if weights.get(name)]
        if options:
            yield f"--general takes no {', '.join(options)}: it has neither a task nor answers"
        if not self.corpus:
            yield "--general without --corpus: expected text files, or the name of a dataset"

    def resolved(self) -> DistillConfig:
        """Replace what the task, the objective or another option decides by its value.

        Epochs and rate of stage a stay open where `--init` names a model, which decides: see `started`.
        """
        config = replace(
            self, loss=",".join(f"{name}={weight:g}" for name, weight in self.weights.items()),
            student=STUDENTS.get(self.student, self.student),
            accumulation=_or_default(self.accumulation, GENERAL_ACCUMULATION if self.general else 1),
        )  # fmt: skip
        if self.general:
            return replace(
                config, intermediate_epochs=_or_default(self.intermediate_epochs, GENERAL_EPOCHS),
                intermediate_lr=_or_default(self.intermediate_lr, FRESH_LR),
            )  # fmt: skip
        config = replace(
            config, prediction_epochs=_or_default(self.prediction_epochs, self._task.prediction_epochs),
            prediction_lr=_or_default(self.prediction_lr, PREDICTION_LR),
        )  # fmt: skip
        return config.started(projected=self.init == "teacher") if self.init in COMPUTED else config

    def started(self, *, projected: bool) -> DistillConfig:
        """Fill in epochs and rate of stage a: those of a student that is projected, or of one that is not."""
        epochs = PROJECTED_EPOCHS if projected else self._task.intermediate_epochs
        return replace(
            self, intermediate_epochs=_or_default(self.intermediate_epochs, epochs),
            intermediate_lr=_or_default(self.intermediate_lr, PROJECTED_LR if projected else FRESH_LR),
        )  # fmt: skip

    @property
    def _task(self) -> Task:
        return TASKS.get(self.task or "", Task("auto", ()))

    def without_derived(self) -> DistillConfig:
        """Take out what follows from the task, the objective or another option, weights of the objective's among it."""
        config, objective = super().without_derived(), replace(self, loss=None).weights
        own = {name: weight for name, weight in parse_weights(config.loss or "").items() if weight != objective[name]}
        return replace(config, loss=",".join(f"{name}={weight:g}" for name, weight in own.items()) or None)


def _or_default(value: T | None, default: T) -> T:
    """Give the default for None; 0 is a value."""
    return default if value is None else value
