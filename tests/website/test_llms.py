"""llms.txt: the pages by section, each with its first sentence."""

from __future__ import annotations

import pytest

from website.llms import PlainPage, full, index


@pytest.mark.parametrize(
    ("markdown", "summary"),
    [
        ("# Title\n\nFirst one. Second.", "First one."),
        ("# T\n\n```\ncode. x\n```\n\n| a | b |\n\n- item.\n\n`toolkit` says\nit. No more.", "`toolkit` says it."),
        ("# T\n\nSee [the page](other.md#x): it helps. More.", "See the page: it helps."),
        ("# T\n\n![a picture](x.svg)", ""),
    ],
)
def test_the_summary_is_the_first_sentence_of_the_text(markdown: str, summary: str) -> None:
    assert PlainPage("Start", "T", "t.html", markdown).summary == summary


def test_the_index_lists_pages_by_section() -> None:
    pages = [PlainPage("A", "One", "1.html", "# One\n\nFirst."), PlainPage("B", "Two", "2.html", "# Two"),
             PlainPage("A", "Three", "3.html", "# Three\n\nThird.")]  # fmt: skip
    assert index("name", "What it is.", pages) == (
        "# name\n\n> What it is.\n\n## A\n\n- [One](1.html): First.\n- [Three](3.html): Third.\n\n"
        "## B\n\n- [Two](2.html)\n"
    )
    assert full(pages) == "# One\n\nFirst.\n\n# Two\n\n# Three\n\nThird.\n"
