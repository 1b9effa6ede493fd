"""README's first block: the lines that matter of what `make demo` and `make test` printed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.terminal import alternative

LINES = (
    "== 1/5", "teacher: test", "== 2/5", "about ", "test accuracy: teacher", "the student keeps", "== 3/5",
    "runs/demo/int8: ", "== 4/5", "total, ", "== 5/5", "POST ", "  [", "done in ", "  toolkit predict ",
)  # fmt: skip
SUMMARY = re.compile(r"^=* ?(\d+ passed.*? in [\d.]+s(?: \([\d:]+\))?)", re.MULTILINE)


def demo_lines(demo: str) -> list[str]:
    """Choose the lines of the output of `make demo` that tell what happens, the command first.

    Raises:
        ValueError: a log of a run that did not come to its end.
    """
    lines = demo.splitlines()
    return ["$ make demo", *(_first(lines, start) for start in LINES)]


def summary(tests: str) -> str:
    """Give the line of the output of `make test` that says how many passed.

    Raises:
        ValueError: a log that has no such line, or one that says that some failed.
    """
    passed = SUMMARY.search(tests)
    if passed is None or " failed" in tests:
        raise ValueError("the tests' log has no line that says how many passed, or one that says that some failed")
    return passed[1]


def transcript(picture: str, lines: Sequence[str], tests: str) -> str:
    """Write the block in Markdown: the picture of the demo's lines, and what the tests say at their end.

    Args:
        picture: path of the picture, from README.md.
        lines: of `demo_lines`.
        tests: output of `make test`.
    """
    return f"![{alternative(lines)}]({picture})\n\n```\n$ make test\n{summary(tests)}\n```\n"


def _first(lines: Sequence[str], start: str) -> str:
    line = next((line for line in lines if line.startswith(start)), None)
    if line is None:
        raise ValueError(f"the demo's log has no line that starts with {start!r}")
    return line.rstrip()
