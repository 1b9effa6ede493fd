"""Tables and sentences of a report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.bench import report
from toolkit.benchmarking.report.tables import (
    ScorePoint,
    milliseconds,
    model_table,
    page_tables,
    score_points,
    speed_table,
    terminal_tables,
)
from toolkit.benchmarking.results import LengthPoint, Report


def test_tables_without_rows_are_left_out(content: Report) -> None:
    titles = [table.title for table in page_tables(content)]
    assert titles == [
        "Claims", "Models", "Speed", "Where the gain comes from", "Scenarios", "Environment", "Files",
    ]  # fmt: skip
    assert "Scenarios" not in [table.title for table in page_tables(replace(content, scenarios=[]))]
    assert [table.title for table in terminal_tables(content)][-1] == "Claims"
    for table in page_tables(content):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_speed_and_size_are_times_the_baselines() -> None:
    rows = {row[0]: row for row in speed_table(report()).rows}
    assert rows["ONNX over PyTorch"][7:9] == ["12.5", "10"]
    assert rows["ONNX over PyTorch"][-2:] == ["1.25x [1.12, 1.38]", "30"]
    smaller = [row[4] for row in model_table(report()).rows]
    assert smaller == ["1.00x", f"{402 / 22:.2f}x"]


def test_a_score_stands_at_its_models_latency() -> None:
    whole, labels = report(), ("BERT-base, fp32 ONNX", "tinybert4, fp32 ONNX", "runs/int8, int8 ONNX")
    lengths = [
        LengthPoint(model=label, length=length, samples_ms=[], median_ms=ms * length)
        for length in (64, 128) for label, ms in zip(labels, (3.0, 2.0, 1.0), strict=True)
    ]  # fmt: skip
    models = [whole.models[0], replace(whole.models[1], score=0.8, fp32_score=0.9)]
    points, baseline_ms = score_points(replace(whole, models=models, latency_by_length=lengths))
    assert baseline_ms == 384
    assert points == [ScorePoint("runs/int8, int8 ONNX", 128, 0.8), ScorePoint("tinybert4, fp32 ONNX", 256, 0.9)]


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (1.234, "1.23"), (99.94, "99.9"), (123.4, "123"), (1234.4, "1,234")]
)
def test_milliseconds_have_three_digits(value: float, text: str) -> None:
    assert milliseconds(value) == text
