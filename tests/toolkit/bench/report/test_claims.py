"""Verdicts, how many measurements would decide, where the gain comes from, and reports held against each other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bench.bench import compare
from toolkit.bench.report.claims import missed_claims, speed_claims
from toolkit.bench.report.regressions import read_report, regressions
from toolkit.bench.report.speedup_breakdown import speedup_breakdown
from toolkit.bench.report.tables import SCHEMA_VERSION
from toolkit.errors import GateError, ToolkitError

SIDE = {"model": "tinybert4", "runtime": "onnxruntime"}
CONTROL = {"kind": "control", "a": SIDE, "b": SIDE, "batch_size": 1, "length": 128, "claim": None, "pairs": 9}
SPEED = CONTROL | {"kind": "distillation", "claim": 9.4, "ratio": 12.0, "low": 11.0, "high": 13.0}
QUIET = CONTROL | {"ratio": 1.04, "low": 0.99, "high": 1.2}
SLOW, FAST = (CONTROL | {"ratio": x, "low": x - 0.1, "high": x + 0.1} for x in (1.3, 0.8))


def test_a_disturbed_control_widens_the_interval() -> None:
    assert speed_claims([QUIET, SPEED])[0]["reason"] == ""
    for disturbed, factor in ((SLOW, 1.4), (FAST, 1 / 0.7)):
        found = speed_claims([disturbed, SPEED])[0]
        assert found["verdict"] == "INCONCLUSIVE"  # 11 / 1.4 is below 9.4
        assert (found["low"], found["high"]) == pytest.approx((11 / factor, 13 * factor))
        assert f"widened by {factor:.2f}x" in found["reason"]
        assert speed_claims([disturbed, SPEED | {"low": 15.0, "high": 20.0}])[0]["verdict"] == "PASS"
        assert speed_claims([disturbed, SPEED | {"low": 1.0, "high": 2.0}])[0]["verdict"] == "FAIL"
    assert speed_claims([SLOW, SPEED | {"batch_size": 8}])[0]["verdict"] == "PASS"  # another control's batch


def test_an_inconclusive_verdict_says_how_many_pairs_would_decide() -> None:
    noisy = SPEED | {"ratio": 10.4, "low": 8.4, "high": 13.0, "pairs": 30}
    found = speed_claims([QUIET, noisy])[0]
    assert (found["verdict"], found["needed"]) == ("INCONCLUSIVE", 120)  # 2 wide, 1 away: four times as many
    assert "about 120 pairs would decide" in missed_claims([found])[0]
    # the disturbance alone straddles the claim: no number of pairs would help
    found = speed_claims([SLOW, SPEED])[0]
    assert (found["verdict"], found["needed"]) == ("INCONCLUSIVE", None)
    assert "no number of pairs would decide" in found["reason"]
    assert speed_claims([QUIET, SPEED])[0]["needed"] is None


def test_fresh_processes_overrule_the_one_that_measured_all() -> None:
    again = {"ratio": 9.9, "low": 9.0, "high": 10.9, "processes": 5, "runs": []}
    found = speed_claims([QUIET, SPEED | {"replicated": again}])[0]
    assert (found["measured"], found["verdict"], found["needed"]) == (9.9, "INCONCLUSIVE", 17)
    assert found["reason"] == "5 processes; about 17 processes would decide"


def side(model: str, runtime: str, precision: str, score: float | None = None) -> dict[str, Any]:
    label = f"{model}, {precision} {runtime}"
    return {"label": label, "model": model, "runtime": runtime, "precision": precision, "score": score}


def compared(
    kind: str, a: dict[str, Any], b: dict[str, Any], ratio: float, seed: int = 0, noise: float = 0.02
) -> dict[str, Any]:
    """A comparison of 30 pairs with a known ratio."""
    random = np.random.default_rng(seed)
    below = 10 * np.exp(random.normal(0, noise, 30))
    above = ratio * 10 * np.exp(random.normal(0, noise, 30))
    return {
        "kind": kind, "a": a, "b": b, "batch_size": 1, "length": 128, "claim": None, "pairs": 30, "ratio": ratio,
        "low": 0.9 * ratio, "high": 1.1 * ratio, "a_samples_ms": above.tolist(), "b_samples_ms": below.tolist(),
        "b_median_ms": 10.0,
    }  # fmt: skip


BASE_TORCH, BASE = side("BERT-base", "pytorch", "fp32"), side("BERT-base", "onnxruntime", "fp32")
TORCH, ONNX = side("tinybert4", "pytorch", "fp32", 0.85), side("tinybert4", "onnxruntime", "fp32", 0.85)
INT8 = side("runs/int8", "onnxruntime", "int8", 0.84)


def content(seed: int = 0, bundle: str = "runs/int8", int8: float = 1.5, noise: float = 0.02) -> dict[str, Any]:
    given = INT8 | {"model": bundle, "label": f"{bundle}, int8 ONNX"}
    shared = {"precision": "fp32", "part_bytes": {}}
    return {
        "schema_version": SCHEMA_VERSION,
        "threads": 2,
        "environment": {"cpu": "Test CPU", "python": "3.11", "gpu": None, "versions": {"torch": "2", "onnx": "1"}},
        "models": [
            shared | {
                "name": "BERT-base", "architecture": "BERT-base", "baseline": True, "parameters": 100,
                "fp32_onnx_bytes": 402, "size_bytes": 402,
            },
            shared | {
                "name": bundle, "architecture": "tinybert4", "baseline": False, "precision": "int8", "parameters": 20,
                "fp32_onnx_bytes": 82, "size_bytes": 22,
            },
        ],
        "comparisons": [
            CONTROL | {"ratio": 1.0, "low": 0.98, "high": 1.02},
            compared("distillation", BASE, ONNX, 13.0, seed, noise),
            compared("distillation, PyTorch", BASE_TORCH, TORCH, 12.0, seed + 1, noise),
            compared("onnx", TORCH, ONNX, 1.25, seed + 2, noise),
            compared("int8", ONNX, given, int8, seed + 3, noise),
            compared("total", BASE_TORCH, given, 22.0, seed + 4, noise),
            compared("batching", given, given, 2.0, seed + 5, noise) | {"batch_size": 64, "length": None},
        ],
    }  # fmt: skip


def test_gains_stand_apart_and_multiply() -> None:
    ((name, steps),) = speedup_breakdown(content())
    assert name == "runs/int8, batch 1"
    assert [step.name for step in steps] == [
        "distillation", "ONNX", "int8", "batching by length", "product at a fixed length", "measured directly",
        "product with batching",
    ]  # fmt: skip
    assert [step.size_bytes for step in steps[:4]] == [80, 82, 22, 22]
    assert [step.score for step in steps[:4]] == [0.85, 0.85, 0.84, 0.84]
    fixed, direct, whole = steps[4:]
    assert fixed.faster.value == pytest.approx(12 * 1.25 * 1.5)
    assert whole.faster.value == pytest.approx(12 * 1.25 * 1.5 * 2)
    assert fixed.smaller == pytest.approx(400 / 22) == direct.smaller
    assert direct.faster.value == 22
    # three independent steps of 10 % each: sqrt(3) times as wide, in logarithms
    assert np.log(fixed.faster.high / fixed.faster.value) == pytest.approx(np.sqrt(3) * np.log(1.1))


def test_what_got_slower_is_told_and_nothing_else(tmp_path: Path) -> None:
    old, same, worse = tmp_path / "old.json", tmp_path / "same.json", tmp_path / "worse"
    worse.mkdir()
    old.write_text(json.dumps(content()))
    same.write_text(json.dumps(content(seed=50, bundle="elsewhere/int8")))
    (worse / "report.json").write_text(json.dumps(content(seed=90, int8=1.1)))
    compare(old, same)
    with pytest.raises(GateError) as caught:
        compare(old, worse)  # a folder will do
    assert caught.value.exit_code == 1
    assert "1 of 6 comparisons got slower" in str(caught.value)
    assert "int8: runs/int8, int8 ONNX over tinybert4, fp32 onnxruntime, batch 1: 1.50x before, 1.10x now" in str(
        caught.value
    )
    found = regressions(read_report(worse), read_report(old))
    assert found.slower == []
    assert [row[0].split(":")[0] for row in found.table.rows if row[-1] == "faster"] == ["int8"]


def test_a_change_within_the_noise_is_none() -> None:
    assert regressions(content(), content(seed=7, int8=1.45)).slower == []  # less than two processes differ by
    assert regressions(content(noise=0.6), content(seed=7, int8=1.2, noise=0.6)).slower == []
    disturbed = content(seed=7, int8=1.2)
    disturbed["comparisons"][0] |= {"ratio": 1.3, "low": 1.2, "high": 1.4}
    assert regressions(content(), disturbed).slower == []
    assert len(regressions(content(), content(seed=7, int8=1.2)).slower) == 1


def test_other_machines_are_pointed_out() -> None:
    other = copy.deepcopy(content())
    other["environment"] |= {"cpu": "Another CPU", "versions": {"torch": "3", "onnx": "1"}}
    other["threads"] = 1
    assert regressions(content(), other).notes == [
        "cpu: Test CPU before, Another CPU now", "torch: 2 before, 3 now", "threads: 2 before, 1 now",
    ]  # fmt: skip
    other["comparisons"] = [one for one in other["comparisons"] if one["kind"] == "control"]
    with pytest.raises(ToolkitError, match="no comparison in common"):
        regressions(content(), other)


def test_only_reports_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(content() | {"schema_version": 1}))
    (tmp_path / "list.json").write_text("[]")
    for name, words in (("old.json", "schema version 1"), ("list.json", "not a bench report"), ("none", "not a bench")):
        with pytest.raises(ToolkitError, match=words) as caught:
            read_report(tmp_path / name)
        assert caught.value.exit_code == 2
