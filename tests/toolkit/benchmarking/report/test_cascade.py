"""The table, the page and the plot of a cascade."""

from __future__ import annotations

from dataclasses import replace

from toolkit.benchmarking.report.cascade import CascadeReport, Point, page, plot, table_of

CURVE = [Point(i / 100, 1 - i / 100, 0.8 + i / 1000, 0.9, 1.0 + i / 10) for i in range(100)]
CURVE.append(Point(None, 0.0, 0.9, 1.0, 11.0))
MARKED = Point(None, 0.555, 0.85, 0.98, 5.45)
REPORT = CascadeReport(
    student="runs/int8", teacher="runs/<teacher>", split="test", rows=100, student_ms=1.0, teacher_ms=10.0,
    cpu_hour_price=None, curve=CURVE, guaranteed=MARKED, promises=["at least 98 %"], created="2026-01-01T00:00:00",
    environment={"cpu": "a CPU"},
)  # fmt: skip


def test_the_table_goes_from_the_student_to_the_teacher() -> None:
    rows = table_of(REPORT).rows
    assert rows[0] == ["student alone", "-", "100.0 %", "80.00 %", "90.0 %", "1", "10.00x"]
    assert rows[-1] == ["teacher alone", "-", "0.0 %", "90.00 %", "100.0 %", "10", "1.00x"]
    assert ["cascade, guaranteed", "by label", "55.5 %", "85.00 %", "98.0 %", "5.45", "1.83x"] in rows
    costs = [float(row[5]) for row in rows[1:-1]]
    assert len(costs) == 11
    assert costs == sorted(costs)
    few = table_of(replace(REPORT, curve=[CURVE[0], CURVE[-1]], guaranteed=None)).rows
    assert [row[0] for row in few] == ["student alone", "cascade", "teacher alone"]


def test_a_price_is_of_a_million_texts() -> None:
    """1 ms a text is 1000 s a million, 1 / 3.6 of an hour."""
    table = table_of(replace(REPORT, cpu_hour_price=0.36))
    assert table.columns[-1] == "price of a million"
    assert [table.rows[0][-1], table.rows[-1][-1]] == ["0.1", "1"]


def test_the_page_escapes_names_and_marks_what_is_guaranteed() -> None:
    shown = page(REPORT)
    assert "runs/&lt;teacher&gt;" in shown
    assert "at least 98 %" in shown
    marked, plain = plot(CURVE, MARKED, CURVE[-1]), plot(CURVE, None, CURVE[-1])
    assert ("guaranteed" in marked, "guaranteed" in plain) == (True, False)
