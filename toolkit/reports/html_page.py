"""Pages of reports: one look, one HTML file each; styles and plots are inside, and nothing is fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

Table = tuple[list[str], list[list[str]]]  # column names, cells
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE")


def fill(
    *, title: str, heading: str, about: str, command: str, created: str, headlines: Sequence[tuple[str, str]],
    body: Sequence[str], warnings: Sequence[str] = (),
) -> str:  # fmt: skip
    """The whole page.

    Args:
        title, heading, about, command, created, warnings: text.
        headlines: a number and what it counts, each.
        body: HTML, from `section`.
    """
    template = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    texts = {"title": title, "heading": heading, "about": about, "command": command, "created": created}
    return template.substitute(
        {name: html.escape(text) for name, text in texts.items()},
        warnings="".join(f'<p class="warning">{html.escape(one)}</p>' for one in warnings),
        headlines="".join(
            f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(number)}</dd></div>" for number, what in headlines
        ),
        body="\n".join(body),
    )


def section(title: str, inside: str) -> str:
    """A part of the page with its heading; `inside` is HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{inside}</section>"


def figure(svg: str, title: str, where: str) -> str:
    """A plot with its caption; `where` tells those who cannot see it where its figures are."""
    return (
        f'<figure role="img" aria-label="{html.escape(title)}; {html.escape(where)}">'
        f"{svg}<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def html_table(title: str, rows: Table) -> str:
    """A table that scrolls by itself where it is too wide; verdicts have their colours."""
    columns, cells = rows
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{_cells(line)}</tr>" for line in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(line: Sequence[str]) -> str:
    first, *rest = map(html.escape, line)
    marked = (f'<td class="{cell.lower()}">{cell}</td>' if cell in VERDICTS else f"<td>{cell}</td>" for cell in rest)
    return f'<th scope="row">{first}</th>' + "".join(marked)
