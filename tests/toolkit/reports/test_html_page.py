"""The page of a report: everything but plots is escaped, and each part stands where it belongs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.browser import Outline
from toolkit.reports.html_page import Figure, Page, Section
from toolkit.reports.table import Table

HOSTILE = "<script>alert('&\"')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;&amp;&#34;&#39;)&lt;/script&gt;"
TABLE = Table("Numbers", ["claim", "verdict"], [["size", "PASS"], ["FAIL", "INCONCLUSIVE"], ["speed", "passed"]])
PAGE = Page("title", "heading", "about", "toolkit test", "2020-01-02T03:04:05+00:00", [("7.6x", "smaller")], [])


def outline_of(page: Page) -> Outline:
    outline = Outline()
    outline.feed(page.render())
    assert not outline.open
    return outline


@pytest.mark.parametrize("field", ["title", "heading", "about", "command", "created"])
def test_texts_are_escaped(field: str) -> None:
    html = replace(PAGE, **{field: HOSTILE}).render()  # type: ignore[arg-type]
    assert HOSTILE not in html
    assert ESCAPED in html


def test_every_part_of_a_section_is_escaped_but_its_plots() -> None:
    section = Section(
        HOSTILE, [HOSTILE], [Figure("<svg></svg>", HOSTILE, HOSTILE)], Table(HOSTILE, [HOSTILE], [[HOSTILE, HOSTILE]])
    )
    page = replace(PAGE, headlines=[(HOSTILE, HOSTILE)], sections=[section], warnings=[HOSTILE])
    html = page.render()
    assert "<script>" not in html
    # title, paragraph, label twice, caption, table's label, column, two cells, headline twice, warning
    assert html.count(ESCAPED) == 12
    assert "<svg></svg><figcaption>" in html


def test_verdicts_have_their_colours_and_row_names_have_none() -> None:
    html = replace(PAGE, sections=[Section("Claims", table=TABLE)]).render()
    assert '<th scope="row">size</th><td data-column="verdict" class="pass">PASS</td>' in html
    assert '<th scope="row">FAIL</th><td data-column="verdict" class="inconclusive">INCONCLUSIVE</td>' in html
    assert '<td data-column="verdict">passed</td>' in html


def test_sections_hold_paragraphs_figures_and_a_table_in_this_order() -> None:
    figures = [Figure("<svg>1</svg>", "first", "x"), Figure("<svg>2</svg>", "second", "x")]
    page = replace(PAGE, sections=[Section("One", ["text"], figures, TABLE), Section("Two", table=TABLE, folded=True)])
    tags = [tag for tag, _ in outline_of(page).seen if tag in ("section", "p", "figure", "table", "details")]
    start = tags.index("section")
    assert tags[start:] == ["section", "p", "figure", "figure", "table", "section", "details", "table"]


def test_a_page_without_sections_or_warnings_is_well_formed() -> None:
    tags = [tag for tag, _ in outline_of(PAGE).seen]
    assert "section" not in tags
    assert 'class="warning"' not in PAGE.render()
    assert "<dt>smaller</dt><dd>7.6x</dd>" in PAGE.render()
