"""Output for the user: progress bars on a terminal, plain lines in a pipe, tables in both; in Python, events.

A command says everything through `echo`, `progress` and `show_table`. They print, unless a callback listens.
"""

from __future__ import annotations

import io
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.tree import Tree

PLAIN_INTERVAL_S = 10.0  # between plain lines: a log stays readable, and shows a step that hangs
ELLIPSIS = "…"  # ends a cell that rich has cut
PIPE_WIDTH = 1000  # a pipe has no width; a table takes what its cells need
# Brackets are text, not markup: labels, file names and user input hold them. Of several processes, which torchrun
# numbers, the first one prints, and the first one of each machine prints errors. In a notebook text is text, not HTML.
console = Console(
    highlight=False, soft_wrap=True, markup=False, force_jupyter=False, quiet=os.environ.get("RANK", "0") != "0"
)
stderr = Console(
    stderr=True,
    highlight=False,
    soft_wrap=True,
    markup=False,
    force_jupyter=False,
    quiet=os.environ.get("LOCAL_RANK", "0") != "0",
)


@dataclass(frozen=True)
class Event:
    """What a running command says: a message, a table, or the progress of a part of its work. `str` gives its text.

    Attributes:
        text: the words that the command line prints; a table has several lines.
        name: of the part whose steps are counted, such as "intermediate"; empty for messages and tables.
        done, total: steps of that part so far, and all of them; both 0 for messages and tables.
        figures: of the last step, by name, such as loss, selection (the metric in %) or speed (words).
    """

    text: str
    name: str = ""
    done: int = 0
    total: int = 0
    figures: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


Listener = Callable[[Event], None]
"""A function that takes each `Event` of a running command, for `listening`; what it raises ends the command."""


def _print(event: Event) -> None:
    console.print(event.text)


def _ignore(event: Event) -> None:
    del event


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener = _print) -> Iterator[None]:
    """Hand everything that commands say inside to a callback; without one print it, as the command line does.

    An exception of the callback ends the command; called again, it goes on from its last checkpoint.

    Args:
        listener: takes each `Event`. `print` is one: it prints every step.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def silent_unless_listening() -> Iterator[None]:
    """Say nothing inside, unless a caller listens."""
    with listening(_listener.get() or _ignore):
        yield


def _prints() -> bool:
    return _listener.get() in (None, _print)


def _say(event: Event) -> None:
    (_listener.get() or _print)(event)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence other libraries: their warnings, their log up to WARNING, their standard output. Errors still raise."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def printable(text: str) -> str:
    """Escape characters that steer a terminal or hide text: names and labels come out of files of others."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _printable_lines(message: str) -> str:
    return "\n".join(map(printable, message.split("\n")))


def echo(message: str) -> None:
    """Say a message to the user."""
    _say(Event(_printable_lines(message)))


def show_error(message: str) -> None:
    """Print an error for the user."""
    stderr.print(_printable_lines(message))


class Progress:
    """A running count of steps, with the figures of the last one."""

    def __init__(self, name: str, total: int, bar: RichProgress | None, done: int = 0) -> None:
        self.name, self.total, self.done, self._bar = name, total, done, bar
        self._first, self._start = done, time.monotonic()
        self._printed = self._start
        self._task = bar.add_task(name, total=total, completed=done, figures="") if bar else None

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count steps. Figures such as loss=0.31 or speed="410 rows/s" stand beside the bar."""
        self.done += steps
        text = " ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else str(value) for name, value in figures.items()
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=steps, figures=text)
            return
        now = time.monotonic()
        if _prints() and now - self._printed < PLAIN_INTERVAL_S and self.done != self.total:
            return
        self._printed, elapsed = now, now - self._start
        left = elapsed / max(self.done - self._first, 1) * (self.total - self.done)
        line = f"{self.name}: {self.done}/{self.total} {text} elapsed {_clock(elapsed)} left {_clock(left)}"
        _say(Event(_printable_lines(line), self.name, self.done, self.total, figures))


def _clock(seconds: float) -> str:
    """Write a time as the bar on a terminal does: 0:02:05."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show progress of `total` steps, `done` of them by an earlier run: a bar, or in a pipe a line every 10 s.

    A callback that listens gets every step.
    """
    if not _draws():
        yield Progress(name, total, None, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console) as bar:
        yield Progress(name, total, bar, done)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Every column but the first is aligned to the right.

    On a terminal that is too narrow for its cells each cell has a line of its own: a figure is never cut.
    """
    table, rows = Table(title=title, title_justify="left"), [list(map(printable, row)) for row in rows]
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    if _draws() and _drawn(table, console.width).count(ELLIPSIS) > _drawn(table, PIPE_WIDTH).count(ELLIPSIS):
        named = (
            [f"{column}: {cell}" if column else cell for column, cell in zip(columns, row, strict=True)] for row in rows
        )
        _say(Event("\n\n".join([title, *map("\n".join, named)]).lstrip()))
        return
    _show(table)


def show_tree(tree: Tree) -> None:
    """Print a tree. Its texts are plain, not markup."""
    branches = [tree]
    while branches:
        branch = branches.pop()
        branch.label = printable(str(branch.label))
        branches += branch.children
    _show(tree)


def _show(figure: Table | Tree) -> None:
    if _draws():
        console.print(figure, soft_wrap=False)
        return
    _say(Event(_drawn(figure, PIPE_WIDTH)))


def _draws() -> bool:
    """Tell whether what is said is drawn on a terminal, as wide as that is."""
    return _prints() and console.is_terminal


def _drawn(figure: Table | Tree, width: int) -> str:
    text = io.StringIO()
    wide = Console(file=text, width=width, highlight=False, markup=False, force_jupyter=False)
    wide.print(figure, soft_wrap=False)
    return text.getvalue().rstrip("\n")
