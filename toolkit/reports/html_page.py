"""Pages of reports: one look, one HTML file each; styles and plots are inside, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.reports.table import Table


@dataclass(frozen=True)
class Figure:
    """A plot with its caption.

    Attributes:
        svg: the plot, trusted as it is.
        title: its caption.
        where: says where its numbers stand, for readers who cannot see it.
    """

    svg: str
    title: str
    where: str


@dataclass(frozen=True)
class Section:
    """A part of a page: paragraphs, then figures, then a table; `folded` shows the table on a click."""

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    table: Table | None = None
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A report as text; `render` escapes all of it.

    Attributes:
        title, heading, about: what the report is of.
        command, created: what made it, and when (ISO 8601).
        headlines: numbers, each with what it counts.
        sections: the body.
        warnings: what a reader has to know first.
    """

    title: str
    heading: str
    about: str
    command: str
    created: str
    headlines: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()

    def render(self) -> str:
        """Fill `template.html`."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        return environment.get_template("template.html").render(page=self)
