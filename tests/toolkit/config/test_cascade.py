"""Options of `toolkit cascade`: each problem in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import CascadeConfig


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queries": 0}, "--queries 0: expected 1 or more"),
        ({"rounds": 0}, "--rounds 0: expected 1 or more"),
        ({"cpu_hour_price": 0.0}, "--cpu-hour-price 0.0: expected more than 0"),
        ({"label_column": "stars"}, "--label-column without --data"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(CascadeConfig("student", "teacher", **options))
