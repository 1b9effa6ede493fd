"""The bench from end to end on tiny models."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.bench import CONFIG, QUICK
from toolkit.benchmarking.bench import measure, require_claims
from toolkit.benchmarking.random_models import Exporter
from toolkit.benchmarking.report.write import report_json
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.config import BenchConfig
from toolkit.errors import GateError, ToolkitError
from toolkit.files import canonical_json
from toolkit.inference.runtimes import TorchRuntime


def test_claims_met(
    tmp_path: Path, baseline: Path, tiny_student: Path, onnx_bundle: Path, data_dir: Path, exporter: Exporter
) -> None:
    out = tmp_path / "report"
    config = BenchConfig(
        bundles=(str(tiny_student), str(onnx_bundle)), baseline=str(baseline), out=str(out), data=str(data_dir),
        size_claim=1.0, speed_claim=1e-6, queries=7, **QUICK,
    )  # fmt: skip
    with suppress(GateError):  # of the gains in speed over one's own baseline, which a busy machine decides
        require_claims(measure(config, exporter))
    stored = json.loads((out / "report.json").read_text())
    decided = [claim["verdict"] for claim in stored["claims"] if not claim["claim"].startswith("faster than")]
    assert decided == ["PASS"] * 6
    kinds = [comparison["kind"] for comparison in stored["comparisons"]]
    apart = ["control", "distillation", "distillation, PyTorch", "onnx", "int8"]
    assert sorted(kinds) == sorted([*apart, *["total", "task lengths", "batching"] * 2])
    for entry in stored["comparisons"]:
        a, b = np.array(entry["a_samples_ms"]), np.array(entry["b_samples_ms"])
        assert len(a) == len(b) == entry["pairs"] == 5
        assert entry["ratio"] == pytest.approx(np.median(a / b))
        assert entry["low"] <= entry["ratio"] <= entry["high"]
    by_kind = {entry["kind"]: entry for entry in stored["comparisons"]}
    headline = by_kind["distillation"]
    assert headline["a"]["runtime"] == headline["b"]["runtime"] == "onnxruntime"
    assert headline["a"]["precision"] == headline["b"]["precision"] == "fp32"
    assert by_kind["int8"]["b"] == {
        "label": f"{onnx_bundle}, int8 ONNX", "model": str(onnx_bundle), "runtime": "onnxruntime",
        "precision": "int8", "score": 0.75,
    }  # fmt: skip
    assert by_kind["int8"]["a"]["score"] is None  # the fp32 student carries no metrics
    assert by_kind["batching"]["a"]["label"].endswith("padded to 32")
    assert by_kind["total"]["a"]["runtime"] == "pytorch"
    assert by_kind["task lengths"]["rows"] == 7
    assert {point["length"] for point in stored["latency_by_length"]} == {16}
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.html"}
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_sizes_parameters_and_hashes_are_the_files_own(
    tmp_path: Path, baseline: Path, tiny_student: Path, onnx_bundle: Path, exporter: Exporter
) -> None:
    config = BenchConfig(
        bundles=(str(onnx_bundle),), baseline=str(baseline), out=str(tmp_path / "r"), size_claim=1.0, **QUICK
    )
    report = measure(config, exporter).content
    base, bundle = report.models
    assert bundle.size_bytes == (onnx_bundle / "model.onnx").stat().st_size
    assert bundle.files == open_bundle(onnx_bundle).manifest["files"]
    assert bundle.parameters == TorchRuntime.load(tiny_student).model.num_parameters()
    assert base.parameters == TorchRuntime.load(baseline).model.num_parameters()
    assert bundle.parameters_with_projection - bundle.parameters == 24 * 96
    # an ONNX file is its weights and a graph of some tens of kilobytes
    assert 0 < base.fp32_onnx_bytes - 4 * base.parameters < 150_000
    claim = next(claim for claim in report.claims if claim.claim == "size, bundle as given")
    assert claim.measured == pytest.approx(base.fp32_onnx_bytes / bundle.size_bytes)
    assert claim.low == claim.high == claim.measured
    assert report.environment["versions"]["onnxruntime"]


def test_claims_missed_after_the_reports_are_written(
    tmp_path: Path, baseline: Path, onnx_bundle: Path, exporter: Exporter
) -> None:
    source = tmp_path / "int8"
    shutil.copytree(onnx_bundle, source)
    config = BenchConfig(bundles=(str(source),), baseline=str(baseline), size_claim=1e6, speed_claim=1e6, **QUICK)
    with pytest.raises(GateError) as caught:
        require_claims(measure(config, exporter))
    assert caught.value.exit_code == 1
    assert re.match(r"[345] of 5 claims are not met", str(caught.value))  # the first two are of gains that time decides
    out = tmp_path / "int8-bench"  # the default: beside the first bundle
    stored = json.loads((out / "report.json").read_text())
    assert [claim["verdict"] for claim in stored["claims"]][2:] == ["FAIL"] * 3
    assert "FAIL" in (out / "report.md").read_text()


def test_bad_input_leaves_nothing_behind(
    tmp_path: Path, baseline: Path, tiny_student: Path, exporter: Exporter
) -> None:
    config = BenchConfig(bundles=(str(tiny_student),), baseline=str(baseline), out=str(tmp_path / "r"), **QUICK)
    for changes, words in (
        ({"length": 65}, "positions for 64 tokens"),
        ({"baseline": str(tmp_path / "none")}, "no config.json"),
        ({"preset": "paper", "batch_sizes": BenchConfig.batch_sizes}, "positions for 64 tokens"),
        ({"preset": "paper"}, "--preset paper with --batch-sizes"),
        ({"device": "tpu", "max_pairs": 1}, "2 problems"),
        ({"replicates": 2}, "--replicates 2: expected 0, or 3 or more"),
        ({"scenarios": "single,burst"}, "--scenarios burst: expected one of single, offline, server"),
        ({"bundles": (str(tmp_path),)}, "not a bundle"),
        ({"out": str(tiny_student)}, "not a bench report"),
        ({"data": str(tmp_path / "none")}, "no such file or directory"),
    ):
        with pytest.raises(ToolkitError, match=words) as caught:
            measure(replace(config, **changes), exporter)
        assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_whole_of_it_with_the_real_service(
    tmp_path: Path, tiny_onnx: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path], data_dir: Path,
    monkeypatch: pytest.MonkeyPatch, exporter: Exporter,
) -> None:  # fmt: skip
    monkeypatch.setattr("toolkit.benchmarking.server.load_generator.TRIAL_S", 0.1)
    monkeypatch.setattr("toolkit.benchmarking.server.load_generator.MAX_RATE", 400.0)
    baseline = save_model(tiny_bert(hidden_size=48), tmp_path / "baseline")
    config = replace(
        CONFIG, bundles=(str(tiny_onnx),), baseline=str(baseline), out=str(tmp_path / "out"), data=str(data_dir),
        scenarios="server", rate=200.0, latency_bound_ms=5000.0, size_claim=0.5,
    )  # fmt: skip
    (served,) = json.loads(canonical_json(report_json(measure(config, exporter).content)))["scenarios"]
    assert served["scenario"] == "server"
    assert (served["requests"], served["refused"], len(served["samples_ms"])) == (100, 0, 100)
    assert served["highest_rate"] == 400.0
    assert [trial["rate"] for trial in served["trials"]] == [200.0, 400.0]
    assert 0 < served["p50_ms"] <= served["p99_ms"] <= 5000
    assert "400 within 5000 ms" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_tinybert4_against_bert_base(tmp_path: Path, save_model: Callable[..., Path], exporter: Exporter) -> None:
    """The project's own claim, at one batch size: 7.5 times smaller, 9.4 times faster than BERT-base."""
    from transformers import BertConfig, BertForSequenceClassification

    from toolkit.tasks import TASKS

    shape = {"num_hidden_layers": 4, "hidden_size": 312, "intermediate_size": 1200, "num_attention_heads": 12}
    manifest = {
        "kind": "student", "task": TASKS["sst2"].to_dict(), "precision": "fp32", "max_length": 128, "parent": None,
        "config": {}, "seed": 0, "metrics": {},
    }  # fmt: skip
    with write_bundle(tmp_path / "student", manifest) as staging:
        save_model(BertForSequenceClassification(BertConfig(**shape)), staging)
    report = measure(BenchConfig(bundles=(str(tmp_path / "student"),), batch_sizes=(1,)), exporter)
    require_claims(report)
    assert [model.parameters for model in report.content.models] == [109_482_240 + 1538, 14_350_248 + 626]
