"""Rows of the table of export sizes."""

from __future__ import annotations

from typing import Any

from benchmarks.export.quality import SIZES, cells, student_of

ROW: dict[str, Any] = {
    "task": "mrpc", "seed": 1, "finished": False, "size": "int8", "size_mb": 14.6, "metric": "f1", "fp32": 88.0,
    "int8": 87.7, "drop": 0.3, "agreement": 0.985, "p99_difference": 0.1, "max_difference": 0.25, "max_mb": 14.6,
    "max_drop": 0.3,
}  # fmt: skip


def test_a_row_holds_at_its_bounds_and_fails_beyond_them() -> None:
    assert cells(ROW) == (
        "mrpc", "1", "int8", "14.60", "30.0x", "f1", "88.00", "87.70", "0.30", "98.50", "0.100", "0.250", "yes",
    )  # fmt: skip
    assert cells(ROW | {"drop": 0.31})[-1] == "NO"
    assert cells(ROW | {"size_mb": 14.7})[-1] == "NO"
    assert cells(ROW | {"agreement": None, "finished": True})[:10:9] == ("mrpc, finished", "-")


def test_rows_are_sorted_by_task_and_finish() -> None:
    rows = [ROW | {"task": task, "finished": finished} for task in ("rte", "mrpc") for finished in (True, False)]
    ordered = sorted(rows, key=student_of)
    assert [(row["task"], row["finished"]) for row in ordered] == [
        ("mrpc", False), ("mrpc", True), ("rte", False), ("rte", True),
    ]  # fmt: skip


def test_smaller_sizes_have_smaller_bounds() -> None:
    assert [size.max_mb for size in SIZES] == sorted((size.max_mb for size in SIZES), reverse=True)
    assert [size.name for size in SIZES if size.trimmed] == ["2-bit, trimmed"]
