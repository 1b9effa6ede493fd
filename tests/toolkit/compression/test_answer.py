"""Which bundle is the answer, what is finished on the way, and what is said where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.compression.test_search import PROMISING, SHORT, WHOLE, Known, plan
from toolkit.bundle.format import open_bundle
from toolkit.compression.answer import finish, no_answer, take
from toolkit.compression.budget import Budget, Cost
from toolkit.compression.bundles import Bundles, Finished
from toolkit.compression.trainings import Epochs
from toolkit.errors import GateError
from toolkit.models.student import Shape

BUDGET = Budget(latency_ms=1.0, size_mb=None, drop=2.0)
FIRST, SECOND, THIRD, FOURTH = PROMISING


class KnownBundles(Bundles):
    """Bundles that take no time: costs are known, and a shape without one cannot be exported."""

    def __init__(self, search: Known, costs: dict[tuple[Shape, Epochs], Cost]) -> None:
        self.costs, self.wholes = costs, list[Shape]()
        super().__init__(search, replace(plan(), budget=BUDGET))

    def add(self, shape: Shape, epochs: Epochs) -> None:
        if cost := self.costs.get((shape, epochs)):
            assert cost.drop is not None
            self.finished[shape, epochs] = Finished(shape, epochs, None, 90 - cost.drop, cost, ())  # type: ignore[arg-type]
        else:
            failures = self.search.recall("not exported", {})
            self.search.remember("not exported", {**failures, str(shape): f"{shape}, whole: loses 3 points"})

    def finish(self, shape: Shape, epochs: Epochs) -> None:
        self.wholes.append(shape)
        self.add(shape, epochs)


@pytest.fixture
def search(tmp_path: Path) -> Known:
    """A search that has trained its candidates, the first one whole: they end in the order of PROMISING."""
    made = Known(tmp_path, dict(zip(PROMISING, (80.0, 70.0, 60.0, 50.0), strict=True)))
    made.train_candidates(plan(), lambda *_: None)
    return made


def test_the_next_one_is_finished_until_something_is_within_the_budget(search: Known) -> None:
    costs = {(FIRST, WHOLE): Cost(1.1, 1.0, 0.0), (THIRD, WHOLE): Cost(0.9, 1.0, 2.0)}
    bundles = KnownBundles(search, costs | {(FOURTH, WHOLE): Cost(0.1, 0.1, 0.0)})
    answer = finish(bundles)
    assert bundles.wholes == [FIRST, SECOND, THIRD]
    assert answer is not None
    assert answer.shape == THIRD
    assert bundles.missed == [f"{SECOND}, whole: loses 3 points"]


def test_no_other_bundle_within_the_budget_is_better_than_the_answer(search: Known) -> None:
    known = {
        (FIRST, WHOLE): Cost(0.9, 1.0, 1.0), (SECOND, SHORT): Cost(0.8, 1.0, 0.5), (THIRD, SHORT): Cost(1.1, 1.0, 0.0),
        (FOURTH, SHORT): Cost(0.7, 1.0, 1.0),
    }  # fmt: skip
    bundles = KnownBundles(search, known)
    for shape, epochs in known:
        bundles.add(shape, epochs)
    assert (answer := finish(bundles)) is not None
    assert (answer.shape, answer.epochs) == (SECOND, SHORT), "a short training, but the best within the budget"
    assert [student.shape for student in bundles.within] == [SECOND, FIRST, FOURTH], "of equal ones what trained longer"
    assert bundles.wholes == [FIRST]


def test_one_is_finished_whatever_the_time_and_no_more_once_it_is_up(search: Known) -> None:
    bundles = KnownBundles(search, {(shape, WHOLE): Cost(2.0, 1.0, 0.0) for shape in PROMISING})
    search._earlier = 1e9
    assert finish(bundles) is None
    assert bundles.wholes == [FIRST]


@pytest.mark.parametrize(
    ("cost", "gives"),
    [
        (Cost(1.5, 9.0, 1.0), "--max-latency-ms 1.5"),
        (Cost(0.5, 11.5, 1.0), "--max-size-mb 11.5"),
        (Cost(0.5, 9.0, 2.5), "--max-drop 2.5"),
    ],
)
def test_without_an_answer_the_nearest_is_named_and_what_would_have_to_give(
    search: Known, cost: Cost, gives: str
) -> None:
    far = replace(cost, latency_ms=3 * cost.latency_ms, drop=3.0)
    bundles = KnownBundles(search, {(FIRST, WHOLE): far, (SECOND, WHOLE): cost})
    bundles.plan = replace(plan(), budget=replace(BUDGET, size_mb=10.0))
    assert finish(bundles) is None
    error: GateError = no_answer(bundles)
    assert f"the nearest, {SECOND}, takes {cost.latency_ms:g} ms a text and {cost.size_mb:g} MB" in error.problem
    assert (error.expected, error.exit_code) == (f"at least {gives}", 1)


def test_students_that_cannot_be_exported_are_all_named(search: Known) -> None:
    bundles = KnownBundles(search, {})
    assert finish(bundles) is None
    assert bundles.wholes[:4] == PROMISING
    assert f"{FOURTH}, whole: loses 3 points" in no_answer(bundles).problem


def test_the_answer_is_copied_whole(tiny_onnx: Path, tmp_path: Path) -> None:
    source: Any = open_bundle(tiny_onnx)
    for _ in range(2):  # the second time it replaces the first
        copy = take(tmp_path, Finished(FIRST, WHOLE, source, 90.0, Cost(1.0, 1.0, 0.0), ()))
        assert (copy.path, copy.digest) == (tmp_path / "int8", source.digest)
