"""Verdicts: what widens an interval, and how many measurements would decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.bench import BASE, ONNX, comparison, facts
from toolkit.benchmarking.report.claims import control_widening, gain_claims, missed_claims, size_claims, speed_claims
from toolkit.benchmarking.results import Comparison, Kind, Replication


def measured(kind: Kind, ratio: float, low: float, high: float, pairs: int = 9) -> Comparison:
    sides = (ONNX, ONNX) if kind == Kind.CONTROL else (BASE, ONNX)
    claim = None if kind == Kind.CONTROL else 9.4
    return replace(comparison(kind, *sides, ratio), low=low, high=high, pairs=pairs, claim=claim)


SPEED = measured(Kind.DISTILLATION, 12.0, 11.0, 13.0)
QUIET = measured(Kind.CONTROL, 1.04, 0.99, 1.2)
SLOW, FAST = (measured(Kind.CONTROL, x, x - 0.1, x + 0.1) for x in (1.3, 0.8))


def test_a_disturbed_control_widens_the_interval() -> None:
    assert speed_claims([QUIET, SPEED])[0].reason == ""
    for disturbed, factor in ((SLOW, 1.4), (FAST, 1 / 0.7)):
        claim = speed_claims([disturbed, SPEED])[0]
        assert claim.verdict == "INCONCLUSIVE"  # 11 / 1.4 is below 9.4
        assert (claim.low, claim.high) == pytest.approx((11 / factor, 13 * factor))
        assert f"widened by {factor:.2f}x" in claim.reason
        assert speed_claims([disturbed, replace(SPEED, low=15.0, high=20.0)])[0].verdict == "PASS"
        assert speed_claims([disturbed, replace(SPEED, low=1.0, high=2.0)])[0].verdict == "FAIL"
    assert speed_claims([SLOW, replace(SPEED, batch_size=8)])[0].verdict == "PASS"  # another control's batch


def test_an_inconclusive_verdict_says_how_many_pairs_would_decide() -> None:
    noisy = replace(SPEED, ratio=10.4, low=8.4, high=13.0, pairs=30)
    claim = speed_claims([QUIET, noisy])[0]
    assert (claim.verdict, claim.needed) == ("INCONCLUSIVE", 120)  # 2 wide, 1 away: four times as many
    assert "about 120 pairs would decide" in missed_claims([claim])[0]
    # the disturbance alone straddles the claim: no number of pairs would help
    claim = speed_claims([SLOW, SPEED])[0]
    assert (claim.verdict, claim.needed) == ("INCONCLUSIVE", None)
    assert "no number of pairs would decide" in claim.reason
    assert speed_claims([QUIET, SPEED])[0].needed is None


def test_fresh_processes_overrule_the_one_that_measured_all() -> None:
    again = Replication(ratio=9.9, low=9.0, high=10.9, processes=5, runs=[])
    claim = speed_claims([QUIET, replace(SPEED, replicated=again)])[0]
    assert (claim.measured, claim.verdict, claim.needed) == (9.9, "INCONCLUSIVE", 17)
    assert claim.reason == "5 processes; about 17 processes would decide"


def test_only_a_control_of_the_same_model_widens() -> None:
    assert control_widening([SLOW], "tinybert4", 1) == pytest.approx(1.4)
    assert control_widening([SLOW], "tinybert6", 1) == control_widening([SPEED], "tinybert4", 1) == 1


def test_one_s_own_baseline_is_judged_by_the_gains_of_the_bundle_as_given() -> None:
    """A model that is only a little smaller and faster than one's own passes; one that is slower does not."""
    models = [
        facts("mine", "BERT-base", baseline=True, fp32_onnx_bytes=300),
        facts("int8", "tinybert4", fp32_onnx_bytes=310, size_bytes=200),
    ]
    given = replace(ONNX, model="int8", label="int8, int8 ONNX")
    total = replace(comparison(Kind.TOTAL, BASE, given, 8.0), low=7.0, high=9.0, pairs=9)
    claims = gain_claims(models, [QUIET, total])
    assert [(claim.model, claim.required, claim.measured, claim.verdict) for claim in claims] == [
        ("int8", 1.0, 1.5, "PASS"), ("int8", 1.0, 8.0, "PASS"),
    ]  # fmt: skip
    slower = gain_claims(models, [replace(total, ratio=0.8, low=0.7, high=0.9)])[1]
    assert slower.verdict == "FAIL"
    disturbed = gain_claims(models, [SLOW, replace(total, ratio=1.2, low=1.1, high=1.3)])[1]
    assert disturbed.verdict == "INCONCLUSIVE"


def test_sizes_are_judged_in_fp32_and_as_given() -> None:
    models = [
        facts("base", "BERT-base", baseline=True),
        facts("int8", "tinybert4", fp32_onnx_bytes=67, size_bytes=201),
    ]
    claims = size_claims(models, 6.0)
    assert [(claim.model, claim.measured, claim.verdict) for claim in claims] == [
        ("tinybert4", 6.0, "PASS"), ("int8", 2.0, "FAIL"),
    ]  # fmt: skip
    assert missed_claims(claims) == ["  - size, bundle as given of int8: FAIL, 2.00x of 6x"]
