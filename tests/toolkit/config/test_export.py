"""Options of `toolkit export`: each problem in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import ExportConfig

EXPORT = ExportConfig(source="student", out="out")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"precision": "int4"}, "precision int4: expected one of int8, "),
        ({"layout": "flat"}, "--layout flat: expected ort or triton"),
        ({"max_pieces": 9}, "--max-pieces 9: expected --trim-vocabulary"),
        ({"max_pieces": 0, "trim_vocabulary": ("a.txt",)}, "--max-pieces 0: expected 1 or more"),
        ({"max_drop": math.nan}, "--max-drop nan: expected 0 or more points"),
        ({"embedding_bits": 3}, "--embedding-bits 3: expected 8, 4 or 2"),
        ({"precision": "fp32", "embedding_bits": 4}, "--embedding-bits with --fp32: expected --int8"),
        ({"precision": "fp16", "calibration": "a.txt"}, "--calibration with --fp16: expected --int8"),
        ({"precision": "fp32", "tune": True}, "--tune with --fp32: expected --int8"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(EXPORT, **options))
