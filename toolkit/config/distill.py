"""Options of the commands that train."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from toolkit.config.base import PRECISIONS, Config, at_least, fraction, option, positive, required, training_problems
from toolkit.tasks import TASKS, Task

STUDENTS = {"tinybert4": "4/312/1200/12", "tinybert6": "6/768/3072/12"}
LAYER_MAPS = ("uniform", "top", "bottom")
LAYER_LOSSES, PREDICTION_LOSSES = ("attention", "hidden", "embedding", "relations"), ("prediction", "label")
LOSSES = (*LAYER_LOSSES, *PREDICTION_LOSSES)
OBJECTIVES = {
    "tinybert": ("attention", "hidden", "embedding", "prediction"),
    "relations": ("relations", "prediction"),
    "prediction": ("prediction",),
}
PROJECTED_LR, FRESH_LR, PREDICTION_LR = 2e-4, 5e-5, 5e-5
GENERAL_EPOCHS, GENERAL_ACCUMULATION = 3, 8  # of 32 rows: the paper's 256
TASK_OPTIONS = (
    "task", "data", "unlabelled", "augment", "temperature", "prediction_epochs", "prediction_lr", "allow_weak_teacher",
    "quantization_aware", "patience", "seeds",
)  # fmt: skip


@dataclass(frozen=True)
class DistillConfig(Config):
    """Options of `toolkit distill`."""

    teacher: str = required("the model to learn from: a bundle, a directory or a name on the hub")
    task: str | None = required(
        "the teacher's task: a GLUE task, rotten-tomatoes, or auto with --data", unless="general"
    )
    out: str = required("directory to write the student bundle to")
    data: str | None = option(None, "folder with train and dev files (.tsv as GLUE has them, .csv, .jsonl, .parquet)")
    unlabelled: str | None = option(
        None, "more text of the task's kind, without labels: .txt, one a line, or a table with a column text"
    )
    augment: str | None = option(None, "learn from these rows, made by toolkit augment, instead of the plain ones")
    general: bool = option(False, "general distillation: from any encoder, on plain text, without a task")
    corpus: tuple[str, ...] = option(
        (), "its text: a .txt or .txt.gz file or glob, or a dataset NAME or NAME:CONFIG; may be repeated"
    )
    student: str = option(
        "tinybert4", "tinybert4 (4/312/1200/12), tinybert6 (6/768/3072/12) or LAYERS/HIDDEN/FFN/HEADS"
    )
    init: str = option(
        "teacher", "start from: teacher (low-rank projection of it), random, or a bundle such as --general writes"
    )
    layer_map: str = option("uniform", "teacher layers to learn from: uniform, top, bottom or a list such as 3,6,9,12")
    shared_projection: bool = option(False, "one projection to the teacher's width for all layers instead of one each")
    objective: str = option(
        "tinybert", "losses to minimise: tinybert (attention, hidden, embedding, prediction), relations (MiniLMv2's, "
        "and prediction; heads may differ) or prediction"
    )  # fmt: skip
    loss: str | None = option(
        None, "weights in place of the objective's, as in attention=1,hidden=1,embedding=1,prediction=1; 0 switches a "
        "loss off; also relations, and label: the data's own labels"
    )  # fmt: skip
    relation_heads: int | None = option(
        None, "heads that relations are split into [default: the most, up to 48, that divide both widths]"
    )
    temperature: float = option(1.0, "of the prediction loss")
    intermediate_epochs: int | None = option(
        None, "passes of the layer-by-layer stage [default: the task's; 3 with --general]"
    )
    intermediate_lr: float | None = option(
        None, "its learning rate [default: 5e-5; 2e-4 for a task with --init teacher]"
    )
    prediction_epochs: int | None = option(None, "passes of the prediction stage [default: the task's]")
    prediction_lr: float | None = option(None, "its learning rate [default: 5e-5]")
    quantization_aware: bool = option(False, "predict in the arithmetic of the int8 export while learning to")
    batch_size: int = option(32, "rows a process takes at a time")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    dropout: float = option(0.0, "of the student while it learns")
    max_length: int | None = option(
        None, "tokens at which texts are cut [default: the teacher's]; with --general, of each row [default: 128]"
    )
    max_rows: int | None = option(
        None, "train on a random subset of this many rows, with --general the first ones [default: all]"
    )
    allow_weak_teacher: bool = option(False, "go on with a teacher no better than the most frequent label")
    patience: int | None = option(
        None, "end stage b after this many dev evaluations without a new best, 4 an epoch [default: never]"
    )
    accumulation: int | None = option(
        None, "batches whose gradients are summed for one step [default: 1; 8 with --general]"
    )
    precision: str = option(
        "auto", f"of the matrix products: {', '.join(PRECISIONS)}; auto: bf16 on a GPU or a CPU that multiplies in it"
    )
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]"
    )
    seed: int = option(42, "of every random draw")
    seeds: str | None = option(None, "a student for each of these, as in 1,2,3: OUT/seed-1 and so on, and summary.json")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss by name: the objective's, and in their place those that --loss gives."""
        weights = dict.fromkeys(LOSSES, 0.0)
        weights |= dict.fromkeys(OBJECTIVES[self.objective], 1.0)
        if self.general:
            weights |= dict.fromkeys(PREDICTION_LOSSES, 0.0)
        return weights | _weights(self.loss or "")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from training_problems(self)
        for name in ("intermediate_epochs", "prediction_epochs"):
            if (value := getattr(self, name)) is not None:
                yield from at_least(0, **{name: value})
        for name in ("intermediate_lr", "prediction_lr"):
            if (value := getattr(self, name)) is not None:
                yield from positive(**{name: value})
        yield from positive(temperature=self.temperature)
        yield from fraction(dropout=self.dropout)
        yield from self._loss_problems()
        yield from self._stage_problems()
        if self.student not in STUDENTS and not re.fullmatch(r"\d+/\d+/\d+/\d+", self.student):
            shapes = f"{', '.join(STUDENTS)} or LAYERS/HIDDEN/FFN/HEADS such as 4/312/1200/12"
            yield f"--student {self.student}: expected {shapes}"
        if self.layer_map not in LAYER_MAPS and not re.fullmatch(r"\d+(,\d+)*", self.layer_map):
            yield f"--layer-map {self.layer_map}: expected {', '.join(LAYER_MAPS)} or a list such as 3,6,9,12"

    def _loss_problems(self) -> Iterator[str]:
        if self.relation_heads is not None:
            yield from at_least(1, relation_heads=self.relation_heads)
        if self.objective not in OBJECTIVES:
            yield f"--objective {self.objective}: expected one of {', '.join(OBJECTIVES)}"
            return
        faults = list(_loss_problems(self.loss or ""))
        yield from faults
        if faults:
            return
        weights = self.weights
        if not any(weights.values()):
            yield "every loss has weight 0: nothing would be learnt"
        if weights["label"] and self.augment:
            yield f"--loss label={weights['label']:g} with --augment: augmented rows have no labels to learn from"
        answers = any(weights[name] for name in PREDICTION_LOSSES) and self.prediction_epochs != 0
        if self.quantization_aware and not self.general and not answers:
            yield "--quantization-aware: expected a prediction stage, the one that it changes"
        if self.quantization_aware and self.precision not in ("auto", "fp32"):
            yield f"--precision {self.precision}: --quantization-aware needs fp32 or auto: int8's numbers fit in it"

    def _stage_problems(self) -> Iterator[str]:
        """Options of the one stage given to the other."""
        if not self.general:
            if self.task is None:
                yield "no --task: expected a GLUE task, rotten-tomatoes, or auto with --data (or --general)"
            if self.corpus:
                yield "--corpus is what --general learns from; a task takes more text by --unlabelled"
            if self.seeds is not None and not re.fullmatch(r"\d+(,\d+)*", self.seeds):
                yield f"--seeds {self.seeds}: expected a list such as 1,2,3"
            return
        defaults = {field.name: field.default for field in fields(self)} | {"task": None}
        given = [name for name in TASK_OPTIONS if getattr(self, name) != defaults[name]]
        if given or any(_weights(self.loss or "").get(name) for name in PREDICTION_LOSSES):
            shown = [f"--{name.replace('_', '-')}" for name in given]
            shown += [f"--loss {name}" for name in PREDICTION_LOSSES if _weights(self.loss or "").get(name)]
            yield f"--general takes no {', '.join(shown)}: it has neither a task nor answers"
        if not self.corpus:
            yield "--general without --corpus: expected text files, or the name of a dataset"

    def resolved(self) -> DistillConfig:
        """With nothing left open that the task, the objective or another option decides."""
        task = TASKS.get(self.task or "", Task("auto", ()))
        projected = self.init == "teacher" and not self.general
        defaults: dict[str, Any] = {
            "loss": ",".join(f"{name}={weight:g}" for name, weight in self.weights.items()),
            "intermediate_epochs": GENERAL_EPOCHS if self.general else task.intermediate_epochs,
            "intermediate_lr": PROJECTED_LR if projected else FRESH_LR,
            "accumulation": GENERAL_ACCUMULATION if self.general else 1,
        }
        if not self.general:
            defaults |= {"prediction_epochs": task.prediction_epochs, "prediction_lr": PREDICTION_LR}
        settled = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        settled |= {"loss": defaults["loss"], "student": STUDENTS.get(self.student, self.student)}
        return replace(self, **settled)


def _loss_problems(text: str) -> Iterator[str]:
    """What is wrong with a list such as attention=1,hidden=0.5."""
    seen: set[str] = set()
    for part in filter(None, text.split(",")):
        name, _, number = (one.strip() for one in part.partition("="))
        if name not in LOSSES:
            yield f"--loss {part}: expected NAME=WEIGHT, NAME one of {', '.join(LOSSES)}"
        elif name in seen:
            yield f"--loss {part}: {name} is given twice"
        elif not re.fullmatch(r"\d+\.?\d*(e[+-]?\d+)?|\.\d+", number):
            yield f"--loss {part}: expected a weight of 0 or more"
        seen.add(name)


def _weights(text: str) -> dict[str, float]:
    """The weights in such a list; faults are told of by `_loss_problems`."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name.strip(): float(number) for name, _, number in pairs}
