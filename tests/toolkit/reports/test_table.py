"""Tables as Markdown."""

from __future__ import annotations

from toolkit.reports.table import Table


def test_markdown_has_a_line_for_the_columns_and_for_each_row() -> None:
    table = Table("Sizes", ["model", "MB"], [["a", "1.0"], ["b|c", "2.0"]])
    assert table.markdown().splitlines() == ["| model | MB |", "| --- | --- |", "| a | 1.0 |", "| b\\|c | 2.0 |"]
