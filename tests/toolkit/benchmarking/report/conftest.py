"""A real report of tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit.benchmarking.bench import measure
from toolkit.benchmarking.random_models import Exporter
from toolkit.benchmarking.report.read import parse_report
from toolkit.benchmarking.report.write import report_json
from toolkit.benchmarking.results import Report
from toolkit.config import BenchConfig


@pytest.fixture(scope="session")
def content(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_bert: Callable[..., Any],
    save_model: Callable[..., Path], data_dir: Path, exporter: Exporter,
) -> Report:  # fmt: skip
    """A real report on tiny models, given a score and a name that HTML and Markdown must escape."""
    folder = tmp_path_factory.mktemp("report")
    baseline = save_model(tiny_bert(hidden_size=48), folder / "baseline")
    config = BenchConfig(
        bundles=(str(tiny_student),), baseline=str(baseline), out=str(folder / "out"), batch_sizes=(1,), length=32,
        max_pairs=5, threads=1, size_claim=1.0, speed_claim=1e6, data=str(data_dir), queries=8, grid=(1, 2),
    )  # fmt: skip
    text = json.dumps(report_json(measure(config, exporter).content)).replace(str(tiny_student), "<b>a|b</b>&")
    parsed = parse_report(json.loads(text))
    baseline_facts, student = parsed.models
    scored = replace(student, score=0.8125, fp32_score=0.8125, teacher_score=0.875, metric="accuracy")
    return replace(parsed, models=[baseline_facts, scored])
