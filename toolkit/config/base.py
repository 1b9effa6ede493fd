"""The base of every command's options: fields with their help, and checks that list every problem."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, field, fields, replace
from typing import Any, ClassVar, Self

from toolkit.errors import raise_problems
from toolkit.tasks import MAX_LENGTH, TASKS

PRECISIONS = ("fp32", "bf16", "fp16", "auto")
NOT_RECORDED = ("overwrite",)
LOCAL = "local"  # address of a Ray cluster of this machine that ends with the command
PRECISION_HELP = (
    f"precision of the matrix products: {', '.join(PRECISIONS)}; auto: bf16 on a GPU or a CPU that multiplies in it"
)


def argument(help_text: str, metavar: str = "DIR") -> Any:
    """Declare a positional argument of the command."""
    return field(metadata={"help": help_text, "argument": True, "metavar": metavar})


def required(help_text: str, group: str = "", metavar: str = "", *, unless: str = "") -> Any:
    """Declare an option that must be given; `unless` names the option beside which `problems` lets it go."""
    return field(metadata={"help": help_text, "group": group, "metavar": metavar, "unless": unless})


def option(default: Any, help_text: str, group: str = "", metavar: str = "") -> Any:
    """Declare an option with a default. None stands for a value that is worked out, as the help says from what.

    Args:
        default: the value if the option is not given.
        help_text: shown by `--help`.
        group: heading in `--help` under which the option stands; by default "Options".
        metavar: word for the value in `--help`; by default one for its type.
    """
    return field(default=default, metadata={"help": help_text, "group": group, "metavar": metavar})


def overwrite_option(what: str = "bundle") -> Any:
    """Declare --overwrite, without which a command refuses an --out that is there already."""
    return option(False, f"replace the {what} that --out holds already", "Output")


def column_option(role: str, group: str = "Data") -> Any:
    """Declare --text-column, --pair-column or --label-column, whose names are guessed where they are not given."""
    what = {"text": "the text", "pair": "the second text of a pair", "label": "the label"}[role]
    return option(None, f"column of --data with {what} [default: guessed, and said]", group, "COLUMN")


def name_option() -> Any:
    """Declare --name, for a task of one's own."""
    return option(None, "name of your own task [default: that of its data]", "Data", "NAME")


def dev_share_option(group: str = "Data") -> Any:
    """Declare --dev-share, for --data that holds train and dev in one file."""
    return option(None, "share of the rows that is dev where no file is [default: 0.1 of one file]", group, "SHARE")


def skip_option(group: str = "Data") -> Any:
    """Declare --skip-bad-rows, without which rows that cannot be used end the command."""
    return option(False, "leave rows out that cannot be used, and say how many", group)


def ray_option(what: str, group: str) -> Any:
    """Declare --ray, the cluster that does the work of a command."""
    return option(
        None, f"{what} on the Ray cluster at HOST:PORT, on that of this machine (auto), or on this machine as one that "
        f"ends with the command ({LOCAL})", group, "ADDRESS",
    )  # fmt: skip


def is_cluster(address: str) -> bool:
    """Tell whether an address of --ray is HOST:PORT, auto or LOCAL."""
    return address in ("auto", LOCAL) or re.fullmatch(r"[^/]+:\d+", address) is not None


def selection_option() -> Any:
    """Declare --selection-rows, the rows of train that are not learnt from and choose the step to keep."""
    return option(
        None,
        "rows of train that choose the step to keep; 0 keeps the last one [default: none beside a test file, where dev "
        "chooses; else a tenth of train, 200 to 2,000, at most a fifth]",
        "Data",
    )


def choice_flags(default: Any, group: str = "", /, **choices: str) -> Any:
    """Declare one value out of several, each with a flag of its own and its help: --int8 or --fp32."""
    return field(default=default, metadata={"flags": choices, "group": group})


class Config:
    """A frozen set of options that can list its own problems.

    Attributes:
        decided_late: names of the options that `resolved` leaves None: data or models decide them, as bundles record.
    """

    decided_late: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> Iterator[str]:
        """List each problem in words: the option, its value, what is expected."""
        raise TypeError(f"{type(self).__name__} lists no problems")

    def check(self) -> None:
        """Raise one ToolkitError with all problems."""
        raise_problems(self.problems(), subject="these options cannot be used")

    def resolved(self) -> Config:
        """Replace what other options decide by its value."""
        return self

    def without_derived(self) -> Self:
        """Take out each value that `resolved` would give the option if it were None."""
        optional = [field.name for field in fields(self) if field.default is None]  # type: ignore[arg-type]
        resolved = replace(self, **dict.fromkeys(optional)).resolved()  # type: ignore[type-var]
        derived = [name for name in optional if getattr(resolved, name) == getattr(self, name)]
        return replace(self, **dict.fromkeys(derived))  # type: ignore[type-var]

    def shared_with(self, other: type[Config]) -> dict[str, Any]:
        """Give the options that another command has too, by name."""
        names = {field.name for field in fields(other)}  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in names}  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for the bundle, without options that change nothing in it."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_RECORDED}  # type: ignore[call-overload]


def task_problems(task: str | None, data: str | None, files: str) -> Iterator[str]:
    """Give a problem if a task is not in the table, or is auto without `files` to read; None is no problem."""
    if task == "auto" and data is None:
        yield f"--task auto: expected --data DIR with {files}"
    elif task not in (None, "auto", *TASKS):
        yield f"--task {task}: expected one of {', '.join(TASKS)}, or auto with --data"


def at_least(bound: int, **values: int | None) -> Iterator[str]:
    """Give a problem for each option below its bound; None is no problem."""
    for name, value in values.items():
        if value is not None and value < bound:
            yield f"--{name.replace('_', '-')} {value}: expected {bound} or more"


def data_problems(config: Any) -> Iterator[str]:
    """List the problems of the options that say how --data is read."""
    if config.dev_share is not None and not 0 < config.dev_share < 1:
        yield f"--dev-share {config.dev_share}: expected more than 0 and less than 1"
    names = ("text_column", "pair_column", "label_column", "dev_share")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(config, name) is not None]
    if given and config.data is None:
        yield f"{', '.join(given)} without --data: expected the rows that they are about"


def positive(**values: float | None) -> Iterator[str]:
    """Give a problem for each option that is not above 0; None is no problem."""
    for name, value in values.items():
        if value is not None and not value > 0:
            yield f"--{name.replace('_', '-')} {value}: expected more than 0"


def fraction(**values: float) -> Iterator[str]:
    """Give a problem for each option outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            yield f"--{name.replace('_', '-')} {value}: expected 0 up to 1"


def training_problems(config: Any, data: str | None) -> Iterator[str]:
    """List the problems of the options that finetune and distill share.

    Args:
        config: the options of either.
        data: where the task's rows come from, if it is given.
    """
    yield from at_least(1, batch_size=config.batch_size, accumulation=config.accumulation)
    yield from at_least(0, seed=config.seed)
    yield from at_least(1, patience=config.patience, checkpoint_every=config.checkpoint_every)
    if config.precision not in PRECISIONS:
        yield f"--precision {config.precision}: expected {', '.join(PRECISIONS)}"
    yield from at_least(4, max_length=config.max_length)
    if (config.max_length or 0) > MAX_LENGTH:
        yield f"--max-length {config.max_length}: expected {MAX_LENGTH} or less, as bundles hold"
    yield from at_least(1, max_rows=config.max_rows)
    yield from at_least(0, selection_rows=config.selection_rows)
    if config.patience is not None and config.selection_rows == 0:
        yield f"--patience {config.patience} with --selection-rows 0: no rows tell a new best step"
    yield from fraction(warmup=config.warmup, weight_decay=config.weight_decay)
    yield from task_problems(config.task, data, "train and dev files")
    yield from data_problems(config)
    if config.name is not None and config.task != "auto":
        yield f"--name {config.name}: expected --task auto, as others have names"
    if config.name in (*TASKS, "auto", ""):
        yield f"--name {config.name}: expected a name that no task of the table has"
