"""Tables as Markdown."""

from __future__ import annotations

from toolkit.reports.table import Table, duration, percent


def test_markdown_has_a_line_for_the_columns_and_for_each_row() -> None:
    table = Table("Sizes", ["model", "MB"], [["a", "1.0"], ["b|c", "2.0"]])
    assert table.markdown().splitlines() == ["| model | MB |", "| --- | --- |", "| a | 1.0 |", "| b\\|c | 2.0 |"]


def test_a_percentage_has_a_space_before_its_sign() -> None:
    assert [percent(0.96789), percent(0.1, 0), percent(1.0)] == ["96.8 %", "10 %", "100.0 %"]


def test_a_duration_is_in_its_largest_unit() -> None:
    assert [duration(12), duration(59.94), duration(210), duration(4320)] == ["12.0 s", "59.9 s", "3.5 min", "1.2 h"]
