"""Results: which ratio counts, and which model is the yardstick."""

from __future__ import annotations

from dataclasses import replace

from tests.support.bench import BASE, ONNX, comparison, report
from toolkit.benchmarking.results import Kind, Replication
from toolkit.measurement.statistics import Ratio


def test_fresh_processes_count_where_there_are_any() -> None:
    once = comparison(Kind.DISTILLATION, BASE, ONNX, 10.0)
    assert once.measured() == (Ratio(10.0, 9.0, 11.0, 30), "pairs")
    again = replace(once, replicated=Replication(ratio=8.0, low=7.0, high=9.0, processes=5, runs=[]))
    assert again.measured() == (Ratio(8.0, 7.0, 9.0, 5), "processes")
    assert again.paired() == once.paired()


def test_a_report_knows_its_baseline() -> None:
    assert report().baseline.name == "BERT-base"
    assert [model.name for model in report().measured_models] == ["runs/int8"]


def test_kinds_are_the_words_of_report_json() -> None:
    assert f"{Kind.DISTILLATION_PYTORCH}" == "distillation, PyTorch"
    assert Kind("task lengths") is Kind.TASK_LENGTHS
