"""Options of `toolkit finetune`: each problem in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import FinetuneConfig

FINETUNE = FinetuneConfig(model="bert-base-uncased", task="sst2", out="out")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"epochs": 0}, "--epochs 0: expected 1 or more"),
        ({"lr": math.nan}, "--lr nan: expected more than 0"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"weight_decay": -0.1}, "--weight-decay -0.1: expected 0 up to 1"),
        ({"max_rows": 0}, "--max-rows 0: expected 1 or more"),
        ({"max_length": 3}, "--max-length 3: expected 4 or more"),
        ({"patience": 0}, "--patience 0: expected 1 or more"),
        ({"checkpoint_every": 0}, "--checkpoint-every 0: expected 1 or more"),
        ({"accumulation": 0}, "--accumulation 0: expected 1 or more"),
        ({"precision": "int8"}, "--precision int8: expected fp32, bf16, fp16, auto"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(FINETUNE, **options))


def test_auto_with_data_is_accepted() -> None:
    replace(FINETUNE, task="auto", data="reviews").check()
