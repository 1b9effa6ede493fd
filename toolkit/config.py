"""What each command can be told, with defaults; every fault of a configuration is reported at once.

The resolved configuration goes into the bundle that the command makes, so that it can be made again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.errors import faults

STUDENTS = {"tinybert4": "4/312/1200/12", "tinybert6": "6/768/3072/12"}
LAYER_MAPS = ("uniform", "top", "bottom")
PRECISIONS = ("int8", "fp16", "fp32")
DEVICES = ("cpu", "cuda")


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

    model: str
    task: str
    out: str
    data: str | None = None
    epochs: int = 3
    lr: float = 5e-5
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int | None = None
    max_rows: int | None = None
    seed: int = 42

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from _training_problems(self)
        yield from _at_least(1, epochs=self.epochs)
        yield from _positive(lr=self.lr)


@dataclass(frozen=True)
class DistillConfig(Config):
    """Options of `toolkit distill` for a task. None means: worked out from the task or the initialisation."""

    teacher: str
    task: str
    out: str
    data: str | None = None
    student: str = "tinybert4"
    init: str = "teacher"
    layer_map: str = "uniform"
    shared_projection: bool = False
    attention: float = 1.0
    hidden: float = 1.0
    embedding: float = 1.0
    prediction: float = 1.0
    temperature: float = 1.0
    intermediate_epochs: int | None = None
    intermediate_lr: float | None = None
    prediction_epochs: int | None = None
    prediction_lr: float | None = None
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.0
    max_length: int | None = None
    max_rows: int | None = None
    allow_weak_teacher: bool = False
    seed: int = 42

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
        yield from (f"--{name} {value}: expected a weight of 0 or more" for name, value in weights.items() if value < 0)
        if not any(weights.values()):
            yield "every loss has weight 0: nothing would be learnt"
        if self.student not in STUDENTS and not re.fullmatch(r"\d+/\d+/\d+/\d+", self.student):
            yield (
                f"--student {self.student}: expected {', '.join(STUDENTS)} or LAYERS/HIDDEN/FFN/HEADS such as 4/312/1200/12"
            )
        if self.layer_map not in LAYER_MAPS and not re.fullmatch(r"\d+(,\d+)*", self.layer_map):
            yield f"--layer-map {self.layer_map}: expected {', '.join(LAYER_MAPS)} or a list such as 3,6,9,12"


@dataclass(frozen=True)
class ExportConfig(Config):
    """Options of `toolkit export`."""

    source: str
    out: str
    precision: str = "int8"
    data: str | None = None
    max_drop: float = 0.5

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if self.precision not in PRECISIONS:
            yield f"precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
        if self.max_drop < 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"


@dataclass(frozen=True)
class BenchConfig(Config):
    """Options of `toolkit bench`."""

    bundles: tuple[str, ...]
    baseline: str = "bert-base"
    device: str = "cpu"
    out: str | None = None
    data: str | None = None
    threads: int = 0
    batch_sizes: tuple[int, ...] = (1, 8)
    length: int = 128
    size_claim: float = 7.5
    speed_claim: float = 9.4
    max_pairs: int = 30
    seed: int = 42

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
