"""README's terminal: what `make demo` printed as an SVG that fills line by line, from the log of a real run.

The picture is CSS alone and plays once; where the reader asks for less motion, and where nothing plays, all lines stand
there from the start. It follows the reader's light or dark colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from textwrap import wrap

COLUMNS = 64  # few enough that a phone shows them
CHARACTER, LINE, MARGIN, BAR = 9.6, 23, 16, 34  # pixels: width of a character, height of a line, edges, title bar
HEADING = "== "
SECONDS, STEP_SECONDS = 0.3, 0.8  # before a line, and before the heading of a step
STYLE = """
.paper { fill: #f6f8fa; stroke: #d1d9e0 } .dot { fill: #d1d9e0 }
text { font: 16px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328;
  white-space: pre }
.step { fill: #1a7f64; font-weight: 600 }
.line { animation: appear 1ms both } @keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { .line { animation: none } }
@media (prefers-color-scheme: dark) {
  .paper { fill: #151b23; stroke: #3d444d } .dot { fill: #3d444d }
  text { fill: #e6edf3 } .step { fill: #3fb995 }
}"""


def terminal(lines: Sequence[str]) -> str:
    """Draw an SVG page of its own.

    Args:
        lines: what a terminal showed, the command first; those longer than COLUMNS go on in the next row.
    """
    rows = [(row, line) for line in lines for row in _rows(line)]
    delays = accumulate(STEP_SECONDS if row.startswith(HEADING) else SECONDS for row, _ in rows)
    width, height = round(2 * MARGIN + COLUMNS * CHARACTER), BAR + LINE * len(rows) + MARGIN
    texts = [
        _text(row, BAR + LINE * (i + 1) - 6, delay, line)
        for i, ((row, line), delay) in enumerate(zip(rows, delays, strict=True))
        if row.strip()
    ]
    dots = "".join(f'<circle class="dot" cx="{MARGIN + 6 + 20 * i}" cy="18" r="6"/>' for i in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="title desc">\n<title id="title">{escape(alternative(lines))}</title>\n'
        f'<desc id="desc">{escape(chr(10).join(lines))}</desc>\n<style>{STYLE}\n</style>\n'
        f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n{dots}\n'
        + "\n".join(texts)
        + "\n</svg>\n"
    )


def alternative(lines: Sequence[str]) -> str:
    """Give the text that stands for the picture: the command, and how it ended."""
    done = next(line for line in lines if line.startswith("done "))
    return f"{lines[0].removeprefix('$ ')} in a terminal: {done.removesuffix('. Next:')}"


def _rows(line: str) -> list[str]:
    """Break a line where a terminal of COLUMNS has no more room, between words."""
    indent = " " * (len(line) - len(line.lstrip()))
    rows = wrap(line.strip(), COLUMNS, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
    return rows or [""]


def _text(row: str, y: int, delay: float, line: str) -> str:
    """Draw one row, as wide in any font as its characters are here."""
    indent = len(row) - len(row.lstrip())
    kind = " step" if line.startswith((HEADING, "$ ")) else ""
    return (
        f'<text class="line{kind}" x="{MARGIN + indent * CHARACTER:.1f}" y="{y}" '
        f'textLength="{(len(row) - indent) * CHARACTER:.1f}" style="animation-delay:{delay:.1f}s">'
        f"{escape(row.lstrip())}</text>"
    )
