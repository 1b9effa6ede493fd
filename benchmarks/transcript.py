"""README's first block: the lines that matter of what `make demo` and `make test` printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LINES = ("== 1/5", "teacher: test", "== 2/5", "test accuracy: teacher", "the student keeps")
TABLE, TABLE_END = "rotten-tomatoes, ", "└"
END = ("done in ", "  toolkit predict ")
SUMMARY = re.compile(r"^=* ?(\d+ passed.*? in [\d.]+s(?: \([\d:]+\))?)", re.MULTILINE)


def transcript(demo: str, tests: str) -> str:
    """Shorten two logs to a block of Markdown; three dots stand for what is left out.

    Args:
        demo: output of `make demo`.
        tests: output of `make test`.

    Raises:
        ValueError: a log of a run that did not come to its end.
    """
    summary = SUMMARY.search(tests)
    if summary is None or " failed" in tests:
        raise ValueError("the tests' log has no line that says how many passed, or one that says that some failed")
    lines = demo.splitlines()
    shown = ["$ make demo", *_starting_with(lines, LINES), "...", *_table(lines), "...", *_starting_with(lines, END)]
    return "\n".join(["```", *shown, "", "$ make test", summary[1], "```"]) + "\n"


def _starting_with(lines: Sequence[str], starts: Sequence[str]) -> Iterator[str]:
    for start in starts:
        line = next((line for line in lines if line.startswith(start)), None)
        if line is None:
            raise ValueError(f"the demo's log has no line that starts with {start!r}")
        yield line.rstrip()


def _table(lines: Sequence[str]) -> Iterator[str]:
    (title,) = _starting_with(lines, [TABLE])
    yield title
    for line in lines[[line.rstrip() for line in lines].index(title) + 1 :]:
        yield line.rstrip()
        if line.startswith(TABLE_END):
            return
