"""Two reports held against each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bench import report
from toolkit.benchmarking.bench import compare
from toolkit.benchmarking.report.read import read_report
from toolkit.benchmarking.report.regressions import regressions
from toolkit.benchmarking.report.write import report_json
from toolkit.benchmarking.results import Kind
from toolkit.errors import GateError, ToolkitError
from toolkit.files import canonical_json


def test_what_got_slower_is_told_and_nothing_else(tmp_path: Path) -> None:
    old, same, worse = tmp_path / "old.json", tmp_path / "same.json", tmp_path / "worse"
    worse.mkdir()
    old.write_bytes(canonical_json(report_json(report())))
    same.write_bytes(canonical_json(report_json(report(seed=50, bundle="elsewhere/int8"))))
    (worse / "report.json").write_bytes(canonical_json(report_json(report(seed=90, int8=1.1))))
    compare(old, same)
    with pytest.raises(GateError) as caught:
        compare(old, worse)  # a folder will do
    assert caught.value.exit_code == 1
    assert "1 of 6 comparisons got slower" in str(caught.value)
    assert "int8: runs/int8, int8 ONNX over tinybert4, fp32 onnxruntime, batch 1: 1.50x before, 1.10x now" in str(
        caught.value
    )
    better = regressions(read_report(worse), read_report(old))
    assert better.slower == []
    assert [row[0].split(":")[0] for row in better.table.rows if row[-1] == "faster"] == ["int8"]


def test_a_change_within_the_noise_is_none() -> None:
    assert regressions(report(), report(seed=7, int8=1.45)).slower == []  # less than two processes differ by
    assert regressions(report(noise=0.6), report(seed=7, int8=1.2, noise=0.6)).slower == []
    calm = report(seed=7, int8=1.2)
    control, *others = calm.comparisons
    disturbed = replace(calm, comparisons=[replace(control, ratio=1.3, low=1.2, high=1.4), *others])
    assert regressions(report(), disturbed).slower == []
    assert len(regressions(report(), report(seed=7, int8=1.2)).slower) == 1


def test_other_machines_are_pointed_out() -> None:
    old = report()
    machine = {**old.environment, "cpu": "Another CPU", "versions": {"torch": "3", "onnx": "1"}}
    other = replace(old, environment=machine, threads=1)
    assert regressions(old, other).notes == [
        "cpu: Test CPU before, Another CPU now", "torch: 2 before, 3 now", "threads: 2 before, 1 now",
    ]  # fmt: skip
    controls = [comparison for comparison in other.comparisons if comparison.kind == Kind.CONTROL]
    with pytest.raises(ToolkitError, match="no comparison in common"):
        regressions(old, replace(other, comparisons=controls))
