"""Plots as inline SVG: ids are unique in a page, and colours are the page's."""

from __future__ import annotations

import re
from typing import Any

from toolkit.reports.svg import SERIES, legend, series, svg


def draw(axes: Any) -> None:
    axes.plot([1, 2], [3, 4], color=series(0), label="line")
    axes.fill_between([1, 2], [3, 4], color=series(1), hatch="/")
    legend(axes)


def test_colours_become_variables_of_the_page() -> None:
    drawn = svg("plot", draw, height=2)
    assert drawn.startswith("<svg viewBox=")
    assert {"--ink", "--muted", "--grid", "--series-1", "--series-2"} <= set(re.findall(r"var\((--[\w-]+)\)", drawn))
    assert not any(colour in drawn for colour in SERIES)


def test_ids_carry_the_name_of_the_plot_and_references_follow() -> None:
    first, second = (svg(name, draw, height=2) for name in ("first", "second"))
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn)) for drawn in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for drawn, own in zip((first, second), ids, strict=True):
        references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawn))
        assert references
        assert {name for pair in references for name in pair if name} <= own


def test_one_plot_is_the_same_text_each_time() -> None:
    assert svg("plot", draw, height=2) == svg("plot", draw, height=2)


def test_colours_of_a_series_repeat() -> None:
    assert series(len(SERIES)) == series(0) != series(1)
