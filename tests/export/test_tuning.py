"""Trials: every candidate is verified and timed, and the fastest that passes is best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.tuning import Trial, fastest, run_trials, size_bytes
from export.tuning_candidates import Candidate
from export.verify import Gate, Measurement
from tests.support.exporting import export_loosely
from toolkit.bundle.format import open_bundle
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import GateError
from toolkit.inference.runtimes import Runtime


def test_tune_judges_all_and_keeps_the_fastest(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export_loosely(tiny_student, data_dir, tmp_path / "tuned", tune=True)
    trials = {trial["name"]: trial for trial in bundle.manifest["tuning"]}
    assert len(trials) == 7
    assert all(trial["fault"] == "" for trial in trials.values()), "a candidate that cannot be built is none"
    best = bundle.manifest["quantization"]["candidate"]
    assert trials[best]["passed"]
    assert trials[best]["latency_ms"] == min(trial["latency_ms"] for trial in trials.values() if trial["passed"])
    assert bundle.precision == trials[best]["precision"]
    control = trials["onnxruntime dynamic int8"]
    assert not control["passed"]
    assert any("by batch or padding" in missed for missed in control["missed"])
    for name in ("int8, fixed scales", "int8, packed QKV", "int8, one scale a token", "fp32", "fp32, fused"):
        assert trials[name]["passed"], trials[name]
    assert trials["int8, packed QKV"]["agreement"] == trials["int8, fixed scales"]["agreement"]
    assert open_bundle(bundle.path).digest == bundle.digest


def make_trial(name: str, latency_ms: float, value: float = 0.0, problem: str = "") -> Trial:
    gates = [Gate("accuracy lost, points", value, 0.5)]
    trial = Trial(Candidate(name, "int8", lambda path: None), problem=problem, gates=[] if problem else gates)
    trial.samples_ms = [latency_ms]
    if not problem:
        trial.measured = object()  # type: ignore[assignment]
    return trial


def test_the_fastest_that_passes() -> None:
    trials = [
        make_trial("slow", 3.0), make_trial("quick", 2.0), make_trial("wrong", 1.0, value=0.6),
        make_trial("broken", 0.5, problem="no"),
    ]  # fmt: skip
    assert fastest(trials, "model").candidate.name == "quick"
    with pytest.raises(GateError) as caught:
        fastest(trials[2:], "model")
    assert "wrong: accuracy lost, points: 0.6, expected at most 0.5" in str(caught.value)
    assert "broken: no" in str(caught.value)


def test_a_candidate_that_cannot_be_built_stops_no_other(tiny_student: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("no such kernel\nsecond line")

    def copy(path: Path) -> None:
        path.write_bytes((tiny_onnx / "model.onnx").read_bytes())

    def verify(runtime: Runtime, precision: str) -> tuple[Measurement, list[Gate]]:
        return GOOD, [Gate(precision, 0.1, 0.5)]

    encoded = TextEncoder(tiny_student, 32).encode(["a good film", "dull"])
    candidates = [Candidate("broken", "int8", broken), Candidate("copy", "fp32", copy)]
    failed, passed = run_trials(candidates, tmp_path, verify, encoded)
    assert (failed.problem, failed.passed, failed.path) == ("RuntimeError: no such kernel", False, None)
    assert failed.latency_ms == float("inf")
    assert passed.passed
    assert len(passed.samples_ms) == 15
    assert passed.latency_ms == pytest.approx(np.median(passed.samples_ms) / 16)
    record = passed.to_dict()
    assert (record["size_bytes"], record["missed"], record["fault"]) == (size_bytes(passed.path), [], "")  # type: ignore[arg-type]


GOOD = Measurement(
    rows=2, metric="accuracy", metrics={"accuracy": 0.5}, reference_metrics={"accuracy": 0.5}, agreement=1.0,
    errors=0.5, max_difference=0.0, p99_difference=0.0, max_batch_difference=0.0, logit_spread=1.0,
    logits=np.zeros((2, 2)),
)  # fmt: skip
