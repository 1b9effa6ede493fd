"""Scenarios, sweeps, replicates and devices on tiny models, by the code that measures the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.bench.bench import measure
from toolkit.bench.comparisons import BenchContext, comparisons, random_batch
from toolkit.bench.models import BenchModel, from_bundle
from toolkit.bench.random_models import export_onnx
from toolkit.bench.replicates import job, replicate, run_job
from toolkit.bench.runners import RunnerCache, resolve_device
from toolkit.bench.scenarios import text_scenarios, throughput_by_batch
from toolkit.bundle.format import open_bundle
from toolkit.config import BenchConfig
from toolkit.data.datasets import load_split
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import environment

CONFIG = BenchConfig(
    bundles=("student",), batch_sizes=(1,), length=16, max_pairs=5, threads=1, queries=12, grid=(4, 1), speed_claim=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def setting(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_bert: Callable[..., Any], data_dir: Path
) -> BenchContext:
    """The tiny student against a somewhat larger one, with texts of its task."""
    folder = tmp_path_factory.mktemp("setting")
    subject = from_bundle(open_bundle(tiny_student), folder)
    config = tiny_bert(hidden_size=48).config.to_dict()
    export_onnx(config, folder / "baseline.onnx")
    baseline = BenchModel("baseline", config, folder / "baseline.onnx")
    assert subject.bundle is not None
    texts = load_split(subject.bundle.task, "dev", data_dir).subsample(CONFIG.queries, CONFIG.seed)
    return BenchContext(CONFIG.on("cpu"), RunnerCache(1, "cpu"), baseline, [subject], {subject.name: texts})


def test_single_stream_and_offline_ask_every_text(setting: BenchContext) -> None:
    found = text_scenarios(setting)
    # the baseline and the student in ONNX, the bundle as given in PyTorch
    assert [one["scenario"] for one in found] == ["single", "single", "offline"] * 3
    assert [one["length"] for one in found] == [None, 16, None] * 3
    for one in found:
        assert one["queries"] == 12
        assert one["source"].endswith("12 rows")
        if one["scenario"] == "single":
            assert len(one["samples_ms"]) == 12
            assert one["p50_ms"] == sorted(one["samples_ms"])[5]
            assert one["p99_ms"] is None  # of twelve queries there is none
        else:
            assert one["texts_per_s"] == np.median(one["samples_per_s"])
    only = replace(setting, config=replace(setting.config, scenarios="offline"))
    assert {one["scenario"] for one in text_scenarios(only)} == {"offline"}
    assert text_scenarios(replace(setting, splits={})) == []


def test_batching_changes_no_answer(setting: BenchContext) -> None:
    """What offline and the padded side run gives the logits of one text at a time."""
    one, subject = setting.stable.given(setting.subjects[0]), setting.subjects[0]
    assert one is not None
    split, (_, encoder) = setting.splits[subject.name], setting.encoders(subject)
    alone = [one.answer(encoder, text, None)[0] for text in split.texts]
    padded = [one.answer(encoder, text, None, 32)[0] for text in split.texts]
    np.testing.assert_allclose(alone, padded, atol=1e-4)
    shapes: list[tuple[int, ...]] = []

    class Recording:
        def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
            shapes.append(batch["input_ids"].shape)
            return np.zeros((len(batch["input_ids"]), 2), dtype=np.float32)

    recording = replace(one, runtime=Recording())
    many = split.texts * 6  # 72 texts: 32, 32 and 8
    recording.answer_all(encoder, many, None)
    recording.answer_all(encoder, many, None, 32)
    assert [shape[0] for shape in shapes] == [32, 32, 8] * 2
    by_length, fixed = [shape[1] for shape in shapes[:3]], [shape[1] for shape in shapes[3:]]
    longest = encoder.encode(split.texts).lengths.max()
    assert longest == by_length[0] > by_length[1] > by_length[2]
    assert fixed == [32] * 3


def test_the_grid_of_a_gpu_runs_on_any_device(setting: BenchContext) -> None:
    """The code that times CUDA in several precisions, here on the CPU."""
    wide = replace(setting, config=replace(setting.config, precisions=("fp32", "bf16")))
    found = throughput_by_batch(wide)
    assert {one["model"].split(", ")[1] for one in found} == {"fp32 ONNX", "fp32 PyTorch", "bf16 PyTorch"}
    for one in found:
        assert one["batch_size"] in (1, 4)
        assert one["per_s"] == pytest.approx(1000 * one["batch_size"] / np.median(one["samples_ms"]))
    kinds = {one["kind"] for one in comparisons(wide)}
    assert {"bf16", "total"} <= kinds
    batch = random_batch(2, 16, setting.vocabulary, 0)
    exact, short = (setting.stable.pytorch(setting.subjects[0], name).runtime.run(batch) for name in ("fp32", "bf16"))
    assert short.dtype == np.float32
    assert 0 < np.abs(exact - short).max() < 0.1 * np.abs(exact).max()


def test_without_onnxruntime_on_the_device_both_sides_are_pytorch(setting: BenchContext) -> None:
    stable = RunnerCache(1, "cpu")
    stable.has_onnx = False  # as on CUDA without onnxruntime-gpu
    bare = replace(setting, stable=stable, splits={}, config=replace(setting.config, precisions=("fp32", "bf16")))
    found = comparisons(bare)
    assert [one["kind"] for one in found] == ["control", "distillation", "bf16", "total", "total"]
    assert {side["runtime"] for one in found for side in (one["a"], one["b"])} == {"pytorch"}


def test_a_machine_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(ToolkitError, match=r"--device cuda: PyTorch .* (is a CPU build|finds no GPU)") as caught:
        resolve_device("cuda")
    assert "--device cpu" in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert environment("cpu")["gpu"] is None


def test_what_depends_on_the_device() -> None:
    paper = BenchConfig(bundles=("a",), preset="paper")
    on_gpu, on_cpu = paper.on("cuda"), CONFIG.on("cpu")
    assert (on_gpu.batch_sizes, on_gpu.length) == ((128,), 128)
    assert on_gpu.precisions == ("fp32", "bf16", "fp16")
    assert (min(on_gpu.grid), max(on_gpu.grid)) == (1, 256)
    assert (on_cpu.batch_sizes, on_cpu.length, on_cpu.precisions, on_cpu.grid) == ((1,), 16, ("fp32",), (4, 1))


def test_a_job_gives_the_pairs_of_the_claimed_comparison(setting: BenchContext) -> None:
    two = replace(setting, config=replace(setting.config, batch_sizes=(1, 2)))
    found = run_job(json.loads(json.dumps(job(two, setting.subjects[0]))))
    assert [len(one["a_samples_ms"]) for one in found] == [5, 5]
    assert found[0]["ratio"] == pytest.approx(np.median(np.divide(found[0]["a_samples_ms"], found[0]["b_samples_ms"])))


@pytest.mark.slow
def test_fresh_processes_repeat_the_claimed_comparison(setting: BenchContext) -> None:
    three = replace(setting, config=replace(setting.config, replicates=3, batch_sizes=(1, 2)))
    entries = [
        {"kind": "distillation", "claim": 1.0, "b": {"model": setting.subjects[0].architecture}, "batch_size": size}
        for size in (1, 2)
    ]
    unclaimed = {"kind": "onnx", "claim": None}
    replicate(three, [*entries, unclaimed])
    for one in entries:
        again = one["replicated"]
        assert len(again["runs"]) == again["processes"] == 3
        found = [run["ratio"] for run in again["runs"]]
        assert again["ratio"] == pytest.approx(np.exp(np.mean(np.log(found))))
        assert again["low"] <= again["ratio"] <= again["high"]
        assert len({tuple(run["a_samples_ms"]) for run in again["runs"]}) == 3
    assert "replicated" not in unclaimed


def test_a_child_that_fails_is_told_of(setting: BenchContext) -> None:
    gone = replace(setting.baseline, onnx=Path("/nowhere/model.onnx"))
    with pytest.raises(ToolkitError, match="fresh process"):
        broken = replace(setting, baseline=gone, config=replace(setting.config, replicates=3))
        replicate(broken, [])


def test_the_whole_of_it_with_the_real_service(
    tmp_path: Path, tiny_onnx: Path, tiny_bert: Callable[..., Any], save_model: Callable[..., Path], data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("toolkit.bench.server.load_generator.TRIAL_S", 0.1)
    monkeypatch.setattr("toolkit.bench.server.load_generator.MAX_RATE", 400.0)
    baseline = save_model(tiny_bert(hidden_size=48), tmp_path / "baseline")
    config = replace(
        CONFIG, bundles=(str(tiny_onnx),), baseline=str(baseline), out=str(tmp_path / "out"), data=str(data_dir),
        scenarios="server", rate=200.0, latency_bound_ms=5000.0, size_claim=0.5,
    )  # fmt: skip
    (served,) = measure(config).content["scenarios"]
    assert served["scenario"] == "server"
    assert (served["requests"], served["refused"], len(served["samples_ms"])) == (100, 0, 100)
    assert served["highest_rate"] == 400.0
    assert [one["rate"] for one in served["trials"]] == [200.0, 400.0]
    assert 0 < served["p50_ms"] <= served["p99_ms"] <= 5000
    assert "400 within 5000 ms" in (tmp_path / "out" / "report.md").read_text()
