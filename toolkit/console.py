"""Output for the user: progress bars on a terminal, plain lines in a pipe, tables in both."""

from __future__ import annotations

import io
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.tree import Tree

PLAIN_INTERVAL_S = 10.0  # between plain lines: a log stays readable, and shows a step that hangs
PIPE_WIDTH = 1000  # a pipe has no width; a table takes what its cells need
# Brackets are text, not markup: labels, file names and user input hold them. Of several processes, which torchrun
# numbers, the first one prints, and the first one of each machine prints errors.
console = Console(highlight=False, soft_wrap=True, markup=False, quiet=os.environ.get("RANK", "0") != "0")
stderr = Console(
    stderr=True, highlight=False, soft_wrap=True, markup=False, quiet=os.environ.get("LOCAL_RANK", "0") != "0"
)


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
    """Print a message for the user."""
    console.print(_printable_lines(message))


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
        elif time.monotonic() - self._printed >= PLAIN_INTERVAL_S or self.done == self.total:
            self._printed = time.monotonic()
            elapsed = self._printed - self._start
            left = elapsed / max(self.done - self._first, 1) * (self.total - self.done)
            echo(f"{self.name}: {self.done}/{self.total} {text} elapsed {elapsed:.0f}s left {left:.0f}s")


@contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show progress of `total` steps, `done` of them by an earlier run: a bar, or in a pipe a line every 10 s."""
    if not console.is_terminal:
        yield Progress(name, total, None, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console) as bar:
        yield Progress(name, total, bar, done)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Every column but the first is aligned to the right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(printable, row))
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
    wide = Console(file=console.file, width=PIPE_WIDTH, highlight=False, markup=False)
    (console if console.is_terminal else wide).print(figure, soft_wrap=False)
