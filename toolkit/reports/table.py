"""A table of texts, which a terminal, Markdown and HTML show alike, and how percentages and durations are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title and the names of the columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Write it as a GitHub Markdown table, without the title."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction in percent, as every message and report does: "96.8 %"."""
    return f"{100 * fraction:.{digits}f} %"


def duration(seconds: float) -> str:
    """Write a time in its largest unit: "12.0 s", "3.5 min" or "1.2 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
