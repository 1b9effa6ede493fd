"""The parts that every command's options are made of: fields with their help, and checks that list every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, field
from typing import Any

from toolkit.errors import raise_problems
from toolkit.tasks import TASKS

PRECISIONS = ("fp32", "bf16", "fp16", "auto")


def argument(help_text: str) -> Any:
    """A positional argument of the command."""
    return field(metadata={"help": help_text, "argument": True})


def required(help_text: str, *, unless: str = "") -> Any:
    """An option that must be given; where it need not, `unless` says when, and `problems` checks it."""
    return field(metadata={"help": help_text} | ({"unless": unless} if unless else {}))


def option(default: Any, help_text: str) -> Any:
    """An option with a default; None stands for "worked out", as the help says from what."""
    return field(default=default, metadata={"help": help_text})


def choice_flags(default: Any, **choices: str) -> Any:
    """One value out of several, each with a flag of its own and its help: --int8 or --fp32."""
    return field(default=default, metadata={"flags": choices})


class Config:
    """A frozen set of options that can list its own faults."""

    def problems(self) -> Iterator[str]:
        """Each fault in words: the option, what was given, what was expected."""
        raise TypeError(f"{type(self).__name__} lists no problems")

    def check(self) -> None:
        """Raise one ToolkitError with all faults."""
        raise_problems(self.problems(), subject="these options cannot be used")

    def resolved(self) -> Config:
        """With nothing left open that other options decide."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the bundle."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]


def task_problems(task: str | None, data: str | None, files: str) -> Iterator[str]:
    """A fault for a task that is not in the table, or for auto without `files` to read; None is no fault."""
    if task == "auto" and data is None:
        yield f"--task auto: expected --data DIR with {files}"
    elif task not in (None, "auto", *TASKS):
        yield f"--task {task}: expected one of {', '.join(TASKS)}, or auto with --data"


def at_least(bound: int, **values: int) -> Iterator[str]:
    """One fault for each option below its bound."""
    for name, value in values.items():
        if value < bound:
            yield f"--{name.replace('_', '-')} {value}: expected {bound} or more"


def positive(**values: float) -> Iterator[str]:
    """One fault for each option that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            yield f"--{name.replace('_', '-')} {value}: expected more than 0"


def fraction(**values: float) -> Iterator[str]:
    """One fault for each option outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            yield f"--{name.replace('_', '-')} {value}: expected 0 up to 1"


def training_problems(config: Any) -> Iterator[str]:
    """Problems of the options that finetune and distill share; `config` is the options of either."""
    yield from at_least(1, batch_size=config.batch_size)
    if config.accumulation is not None:
        yield from at_least(1, accumulation=config.accumulation)
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
    yield from fraction(warmup=config.warmup, weight_decay=config.weight_decay)
    yield from task_problems(config.task, config.data, "train and dev files")
