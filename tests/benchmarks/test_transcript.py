"""README's block of what the two commands print, from logs of whole runs and of broken ones."""

from __future__ import annotations

import re

import pytest

from benchmarks.transcript import LINES, demo_lines, summary, transcript
from tests.support.paths import ROOT

NOISE = "student: 1/2  elapsed 1s left 1s"
LOG = "\n".join(line for start in LINES for line in (NOISE, f"{start}of the run  ", f"{start}once more"))
TESTS = "collected\n....\n===== 12 passed, 3 skipped in 1.50s =====\n"


def test_the_lines_that_matter_are_kept_and_all_else_is_left_out() -> None:
    assert demo_lines(LOG) == ["$ make demo", *(f"{start}of the run" for start in LINES)]
    assert transcript("docs/demo.svg", demo_lines(LOG), TESTS) == (
        "![make demo in a terminal: done in of the run](docs/demo.svg)\n\n"
        "```\n$ make test\n12 passed, 3 skipped in 1.50s\n```\n"
    )


def test_readme_shows_the_lines_of_its_picture() -> None:
    page, picture = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/demo.svg"))
    shown = re.search(r"<!-- demo -->\n!\[(.*)\]\(docs/demo\.svg\)", page)
    assert shown is not None
    assert f'<title id="title">{shown[1]}</title>' in picture


@pytest.mark.parametrize("start", LINES)
def test_a_demo_without_one_of_its_lines_is_refused(start: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"starts with {start!r}")):
        demo_lines("\n".join(line for line in LOG.splitlines() if not line.startswith(start)))


@pytest.mark.parametrize(("log", "words"), [("1 failed, 3 passed in 1.00s", "some failed"), ("", "how many passed")])
def test_tests_that_failed_or_did_not_end_are_refused(log: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        summary(log)
