"""README's block of what the two commands print, from logs of real runs and of broken ones."""

from __future__ import annotations

import re

import pytest

from benchmarks.transcript import transcript
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_lines_that_matter_are_kept_and_all_else_is_left_out() -> None:
    """What README shows is a transcript of itself, with noise where it has three dots."""
    match = re.search(r"<!-- demo -->\n(.*?)<!-- /demo -->", README, re.DOTALL)
    assert match is not None
    demo, tests = match[1].split("$ make test\n")
    noise = "student: 1/2  elapsed 1s left 1s\nwrote runs/demo/student"
    log = "\n".join(noise if line == "..." else f"{line}  " for line in demo.splitlines()[2:])
    assert transcript(log, f"collected\n....\n===== {tests.splitlines()[0]} =====\n") == match[1]


@pytest.mark.parametrize(
    ("demo", "tests", "words"),
    [
        ("== 1/5 teacher\n", "3 passed in 1.00s", "starts with 'teacher: test'"),
        ("", "1 failed, 3 passed in 1.00s", "some failed"),
        ("", "interrupted", "how many passed"),
    ],
)
def test_a_run_without_its_end_is_refused(demo: str, tests: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        transcript(demo, tests)
