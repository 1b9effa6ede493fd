"""Options of `toolkit serve`: each problem in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import ServeConfig

SERVE = ServeConfig(("int8",))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"workers": -1}, "--workers -1: expected 0 or more"),
        ({"drain_s": -1}, "--drain-s -1: expected 0 or more"),
        ({"processes": 0}, "--processes 0: expected 1 or more"),
        ({"processes": 2, "models_root": "models"}, "--models-root with --processes"),
        ({"shutdown_delay_s": 3600.0}, "--shutdown-delay-s 3600.0: expected 0 up to 3600"),
        ({"log_format": "xml"}, "--log-format xml: expected one of text, json, none"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(SERVE, **options))
