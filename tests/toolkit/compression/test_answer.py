"""Which finished student is the answer, and what is said where none is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.compression.test_search import PROMISING, Known, plan
from toolkit.bundle.format import open_bundle
from toolkit.compression import answer
from toolkit.compression.answer import Finished, Outcome, export_of, finish, no_answer, take
from toolkit.compression.budget import Budget, Cost
from toolkit.compression.search import Search
from toolkit.config import CompressConfig, ExportConfig
from toolkit.errors import GateError
from toolkit.models.student import Shape

BUDGET = Budget(latency_ms=1.0, size_mb=None, drop=2.0)
FIRST, SECOND, *_ = PROMISING


@pytest.fixture
def search(tmp_path: Path) -> Known:
    """A search that has trained its candidates: the first one is the best, and they end in the order of PROMISING."""
    made = Known(tmp_path, dict(zip(PROMISING, (80.0, 70.0, 60.0, 50.0), strict=True)))
    made.train_candidates(plan())
    return made


def finishing(monkeypatch: pytest.MonkeyPatch, costs: dict[Shape, Cost | GateError]) -> list[Shape]:
    tried = list[Shape]()

    def known(search: Search, _: Any, shape: Shape) -> Finished:
        tried.append(shape)
        result = costs[shape]
        if isinstance(result, GateError):
            raise result
        return Finished(shape, None, result)  # type: ignore[arg-type]

    monkeypatch.setattr(answer, "_finish", known)
    return tried


def test_the_next_one_is_tried_until_one_is_within_the_budget(search: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = GateError("loses 3 points")
    costs = dict(zip(PROMISING, (Cost(1.1, 1.0, 0.0), lost, Cost(0.9, 1.0, 2.0), Cost(0.1, 0.1, 0.0)), strict=True))
    tried = finishing(monkeypatch, costs)
    outcome = finish(search, replace(plan(), budget=BUDGET))
    assert tried == PROMISING[:3]
    assert outcome.answer is not None
    assert outcome.answer.shape == PROMISING[2]
    assert outcome.missed == (f"{SECOND}: loses 3 points",)


def test_one_is_finished_whatever_the_time_and_no_more_once_it_is_up(
    search: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = finishing(monkeypatch, dict.fromkeys(PROMISING, Cost(2.0, 1.0, 0.0)))
    search._earlier = 1e9
    outcome = finish(search, replace(plan(), budget=BUDGET))
    assert (tried, outcome.answer) == ([FIRST], None)


def test_without_an_answer_the_nearest_is_named_and_what_would_have_to_give() -> None:
    students = [Finished(FIRST, None, Cost(1.5, 9.0, 1.0)), Finished(SECOND, None, Cost(0.5, 9.0, 2.5))]  # type: ignore[arg-type]
    error = no_answer(Outcome(tuple(students), None, ()), BUDGET)
    assert f"the nearest, {SECOND}, takes 0.5 ms a text and 9 MB, and loses 2.50 points" in error.problem
    assert (error.expected, error.exit_code) == ("at least --max-drop 2.5", 1)
    assert "loses 3 points" in no_answer(Outcome((), None, ("4/32/64/4: loses 3 points",)), BUDGET).problem


def test_an_export_may_lose_what_the_budget_allows() -> None:
    config = CompressConfig("teacher", "auto", "out", data="d", text_column="t", max_size_mb=1.0, max_drop=3.0)
    export = export_of(config, FIRST)
    export.check()
    assert (export.source, export.out) == ("out/4-32-64-4/student", "out/4-32-64-4/int8")
    assert (export.data, export.text_column, export.max_drop) == ("d", "t", 3.0)
    assert export_of(replace(config, max_drop=None), FIRST).max_drop == ExportConfig.max_drop
    assert export_of(replace(config, max_drop=0.0), FIRST).max_drop == ExportConfig.max_drop


def test_the_answer_is_copied_whole(tiny_onnx: Path, tmp_path: Path) -> None:
    source = open_bundle(tiny_onnx)
    for _ in range(2):  # the second time it replaces the first
        copy = take(tmp_path, Finished(FIRST, source, Cost(1.0, 1.0, 0.0)))
        assert (copy.path, copy.digest) == (tmp_path / "int8", source.digest)
