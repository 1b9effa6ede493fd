"""Problems with the rows of a table, alike ones on one line: they end the command, or their rows are left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from toolkit.console import echo
from toolkit.errors import MAX_PROBLEMS, ToolkitError

SHOWN = 5  # lines and values of problems that are alike
MEND = "mend these rows, or --skip-bad-rows to leave them out; nothing was skipped"


class RowProblem(NamedTuple):
    """A problem with a row: its line, the column in words, what stands there, what is expected."""

    line: int
    column: str
    value: str
    expected: str = ""


@dataclass
class _Alike:
    """Problems that differ in line and value only: the first lines and values, and how many there are."""

    column: str
    expected: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    values: dict[str, None] = field(default_factory=dict)

    def add(self, problem: RowProblem) -> None:
        self.count += 1
        if len(self.lines) < SHOWN:
            self.lines.append(problem.line)
        if len(self.values) <= SHOWN:
            self.values[problem.value] = None

    def __str__(self) -> str:
        lines, values = ", ".join(map(str, self.lines)), list(self.values)
        more = f" and {self.count - len(self.lines):,} more" if self.count > len(self.lines) else ""
        shown = ", ".join(values[:SHOWN]) + (" and others" if len(values) > SHOWN else "")
        place = f"line{'s' if self.count > 1 else ''} {lines}{more}"
        return f"{place}{f', {self.column}' if self.column else ''}: {shown}" + (
            f", expected {self.expected}" if self.expected else ""
        )


class RowProblems:
    """The problems of a table, collected row by row in little memory.

    Args:
        name: of the table, for messages.
        skip_bad: leave bad rows out instead of ending the command.
    """

    def __init__(self, name: str, *, skip_bad: bool = False) -> None:
        self.name, self.skip_bad = name, skip_bad
        self.rows = self.bad_rows = self.count = 0
        self._alike: dict[tuple[str, str], _Alike] = {}

    def is_good(self, problems: Iterable[RowProblem]) -> bool:
        """Count a row with its problems; return whether it has none."""
        self.rows += 1
        before = self.count
        for problem in problems:
            self.count += 1
            key = (problem.column, problem.expected)
            self._alike.setdefault(key, _Alike(*key)).add(problem)
        self.bad_rows += self.count > before
        return self.count == before

    def settle(self, fix: str = MEND) -> None:
        """Say how many rows were left out, if any; `fix` is the next step where there are bad rows.

        Raises:
            ToolkitError: bad rows that are not to be left out, or none but bad ones.
        """
        if not self.count:
            return
        groups = list(map(str, self._alike.values()))
        if self.skip_bad and self.bad_rows < self.rows:
            echo(f"{self.name}: left out {self.bad_rows:,} of {self.rows:,} rows: {'; '.join(groups[:3])}")
            return
        more = [f"and {len(groups) - MAX_PROBLEMS} more kinds"] if len(groups) > MAX_PROBLEMS else []
        lines = "".join(f"\n  - {line}" for line in [*groups[:MAX_PROBLEMS], *more])
        count = "1 problem" if self.count == 1 else f"{self.count:,} problems"
        raise ToolkitError(f"{self.name}: {count}{lines}", fix="" if self.skip_bad else fix)
