"""Options of `toolkit calibrate`: each problem in words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.problems import only_problem
from toolkit.cli.main import app
from toolkit.config import CalibrateConfig


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"accurate": 1.0}, "--accurate 1.0: expected more than 0 and less than 1"),
        ({"agree": 0.0, "teacher": "t"}, "--agree 0.0: expected more than 0"),
        ({"accurate": 0.9, "confidence": math.nan}, "--confidence nan: expected more than 0"),
        ({"agree": 0.9}, "--agree and --teacher: expected both or neither"),
        ({"teacher": "t"}, "--agree and --teacher: expected both or neither"),
        ({"per_class": True}, "--per-class: expected --accurate or --agree"),
        ({"confidence": 0.9}, "--confidence 0.9: expected --accurate or --agree"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(CalibrateConfig("bundle", "rows.csv", **options))


@pytest.mark.parametrize("arguments", [["bundle"], ["--data", "rows.csv"]])
def test_bundle_and_rows_are_needed(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["calibrate", *arguments]).exit_code == 2
