"""Options of `toolkit augment`: each problem in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import AugmentConfig

AUGMENT = AugmentConfig(task="sst2", out="rows.parquet")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"out": "rows.csv"}, "--out rows.csv: expected a name that ends in .parquet"),
        ({"copies": 0}, "--copies 0: expected 1 or more"),
        ({"candidates": 0}, "--candidates 0: expected 1 or more"),
        ({"together": 0}, "--together 0: expected 1 or more"),
        ({"replace_probability": 1.5}, "--replace-probability 1.5: expected 0 to 1"),
        ({"precision": "fp16"}, "--precision fp16: expected fp32, bf16, auto"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"task": "auto"}, "--task auto: expected --data DIR with a train file"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(AUGMENT, **options))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_every_word_or_none_may_be_replaced(probability: float) -> None:
    replace(AUGMENT, replace_probability=probability).check()
