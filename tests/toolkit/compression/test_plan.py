"""Candidates by a price list of known prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.toolkit.compression.test_prices import CONFIG as STUDENT
from tests.toolkit.compression.test_prices import GRID, KNOWN, known_list
from toolkit.compression import plan as planning
from toolkit.compression.budget import Budget
from toolkit.compression.material import Material
from toolkit.compression.plan import CANDIDATES, Plan, make_plan, measure_candidates, say_plan
from toolkit.compression.prices import design, terms
from toolkit.compression.shapes import holds
from toolkit.compression.timing import Timed
from toolkit.compression.words import Vocabulary, Words
from toolkit.config import CompressConfig
from toolkit.console import listening
from toolkit.errors import GateError
from toolkit.models.student import Shape

MATERIAL = Material(Shape(6, 384, 1536, 12), STUDENT, np.full(50, 20), 1e-11)
TINYBERT4 = Shape(4, 312, 1200, 12)
WORDS = {**STUDENT, "vocab_size": 30_522}


@pytest.fixture(autouse=True)
def known_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measured_price_list", lambda *_: known_list(design(GRID)))


def plan_for(**budget: float) -> Plan:
    return make_plan(CompressConfig("teacher", "auto", "out", data="d", **budget), MATERIAL)  # type: ignore[arg-type]


def true_ms(shape: Shape) -> float:
    return float(terms(shape, 20) @ KNOWN)


def test_candidates_are_within_the_budget_and_use_it() -> None:
    plan = plan_for(max_latency_ms=0.5)
    assert len(plan.candidates) == CANDIDATES
    within = [shape for shape in plan.grid if true_ms(shape) <= 0.5]
    assert set(plan.candidates) <= set(within)
    outermost = [shape for shape in within if not any(holds(other, shape) for other in within)]
    assert set(outermost) <= set(plan.candidates)


def test_the_papers_shape_is_tried_where_it_fits() -> None:
    limit = true_ms(TINYBERT4)
    assert TINYBERT4 in plan_for(max_latency_ms=1.01 * limit).candidates
    assert TINYBERT4 not in plan_for(max_latency_ms=0.99 * limit).candidates


def test_a_budget_that_cannot_be_met_names_the_nearest() -> None:
    least = Shape(1, 48, 128, 12)
    with pytest.raises(GateError) as caught:
        plan_for(max_latency_ms=0.01)
    assert f"the nearest, {least}, takes {true_ms(least):.3g} ms" in str(caught.value)
    assert "--max-latency-ms" in caught.value.expected
    plan_for(max_latency_ms=float(caught.value.expected.split()[-1]))


def test_a_size_that_no_shape_has_is_known_without_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measured_price_list", lambda *_: pytest.fail("measured"))
    with pytest.raises(GateError, match=r"the smallest, 1/48/128/12, takes \S+ MB without its graph") as caught:
        plan_for(max_size_mb=0.001)
    assert caught.value.expected.startswith("more than --max-size-mb "), "a graph takes some kilobytes too"


def slower(factor: float) -> object:
    def time_shapes(_: Any, shapes: Sequence[Shape], lengths: Sequence[int], threads: int) -> list[Timed]:
        return [Timed(shape, {n: factor * float(terms(shape, n) @ KNOWN) for n in lengths}, 10_000) for shape in shapes]

    return time_shapes


def test_what_was_measured_counts_more_than_what_was_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(max_latency_ms=0.5)
    monkeypatch.setattr(planning, "time_shapes", slower(1.2))
    measured = measure_candidates(plan, [TINYBERT4], threads=1)
    assert measured.candidates
    assert all(1.2 * true_ms(shape) <= 0.5 for shape in measured.candidates)
    assert measured.cost(TINYBERT4).latency_ms == pytest.approx(1.2 * true_ms(TINYBERT4))
    assert any(1.2 * true_ms(shape) > 0.5 for shape in plan.candidates), "else nothing was dropped"


def test_no_candidate_may_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(plan_for(max_latency_ms=0.5), grid=(Shape(6, 96, 320, 12), Shape(2, 288, 896, 12)))
    monkeypatch.setattr(planning, "time_shapes", slower(50))
    with pytest.raises(GateError, match="no student of this teacher is within the budget"):
        measure_candidates(plan, [], threads=1)


def test_a_plan_is_said() -> None:
    said: list[str] = []
    plan = replace(plan_for(max_latency_ms=0.5, max_drop=1.0), vocabulary=Vocabulary(90, 80, 20))
    with listening(lambda event: said.append(event.text)):
        say_plan(CompressConfig("teacher", "auto", "out", data="d", max_latency_ms=0.5, hours=3.0), MATERIAL, plan)
    text = "\n".join(said)
    assert "median error 0.0 %" in text
    assert f"{CANDIDATES} of {len(plan.grid)} shapes to try, at most 0.5 ms a text, at most 1 points lost" in text
    assert all(str(shape) in text for shape in plan.candidates)
    assert "--hours 3 bounds it" in text
    assert "the text needs 90 of 100 word pieces; where the size demands it, 80 or more stay" in text


def test_embeddings_have_fewer_bits_only_where_the_size_needs_them() -> None:
    plan = plan_for(max_latency_ms=1.0)
    plan = replace(plan, prices=replace(plan.prices, config=WORDS))
    assert {plan.words(shape) for shape in plan.grid} == {Words(8)}
    sizes = {bits: plan.prices.size_bytes(TINYBERT4, bits) / 1e6 for bits in (8, 4, 2)}
    assert sizes[8] > sizes[4] > sizes[2]
    for limit, bits in ((sizes[8], 8), (sizes[8] - 0.01, 4), (sizes[4], 4), (sizes[4] - 0.01, 2), (0.5, 2)):
        limited = replace(plan, budget=Budget(None, limit, None))
        assert limited.words(TINYBERT4) == Words(bits)
        assert limited.cost(TINYBERT4).size_mb == sizes[bits]


def test_a_shape_is_let_in_by_a_trimmed_vocabulary_and_its_cost_is_that_of_the_pieces_that_are_kept() -> None:
    plan = plan_for(max_latency_ms=1.0)
    plan = replace(plan, prices=replace(plan.prices, config=WORDS), vocabulary=Vocabulary(18_000, 15_000, 20))
    whole = plan.prices.size_bytes(TINYBERT4, 2) / 1e6
    plan = replace(plan, budget=Budget(None, whole - 0.01, None))
    words, cost = plan.words(TINYBERT4), plan.cost(TINYBERT4)
    assert words.pieces is not None
    kept = plan.prices.size_bytes(TINYBERT4, words.bits, {**WORDS, "vocab_size": words.pieces})
    assert cost.size_mb == kept / 1e6 <= whole - 0.01
    assert plan.budget.holds(cost)
    assert not plan.budget.holds(replace(plan, vocabulary=None).cost(TINYBERT4))


def test_a_limit_that_only_fewer_pieces_meet_names_the_option_that_allows_them() -> None:
    material = replace(MATERIAL, config=WORDS)
    limit = CompressConfig("teacher", "auto", "out", data="d", max_size_mb=0.4)
    with pytest.raises(GateError) as caught:
        make_plan(limit, material)
    assert caught.value.fix.startswith("--trim-vocabulary FILE")
    assert make_plan(limit, replace(material, vocabulary=Vocabulary(10_000, 9_000, 20))).candidates
    with pytest.raises(GateError) as caught:
        make_plan(replace(limit, max_size_mb=0.01), replace(material, vocabulary=Vocabulary(10_000, 9_000, 20)))
    assert caught.value.fix == ""
