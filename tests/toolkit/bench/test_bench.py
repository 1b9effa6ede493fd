"""The bench from end to end on tiny models, and its timing loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.bench.bench import measure, require_claims, run_bench
from toolkit.bench.models import directory
from toolkit.bench.random_models import architecture_key, build, cached_onnx, export_onnx
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.config import BenchConfig
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime

QUICK: dict[str, Any] = {
    "batch_sizes": (1,), "length": 16, "max_pairs": 5, "threads": 1, "scenarios": "", "grid": (1,),
}  # fmt: skip


@pytest.fixture(scope="module")
def baseline(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Any], save_model: Callable[..., Path]
) -> Path:
    """A plain Hugging Face directory of a model some eight times the student's size."""
    model = tiny_bert(hidden_size=96, intermediate_size=192, num_hidden_layers=4)
    return save_model(model, tmp_path_factory.mktemp("baseline") / "model")


@pytest.fixture(scope="module")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """The student as an ONNX bundle with stock dynamic int8, scored on dev."""
    from onnxruntime.quantization import quantize_dynamic

    source = open_bundle(tiny_student)
    out = tmp_path_factory.mktemp("onnx") / "int8"
    manifest = {
        "kind": "onnx", "task": source.task.to_dict(), "precision": "int8", "max_length": 32, "parent": source.digest,
        "config": {}, "seed": 0, "metrics": {"accuracy": 0.75, "f1": 0.7}, "teacher_metrics": {"accuracy": 0.8},
    }  # fmt: skip
    with write_bundle(out, manifest) as staging:
        plain = out.parent / "plain.onnx"
        export_onnx(source.config, plain)
        quantize_dynamic(plain, staging / "model.onnx")
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(tiny_student / name, staging)
    return out


def test_claims_met(tmp_path: Path, baseline: Path, tiny_student: Path, onnx_bundle: Path, data_dir: Path) -> None:
    out = tmp_path / "report"
    config = BenchConfig(
        bundles=(str(tiny_student), str(onnx_bundle)), baseline=str(baseline), out=str(out), data=str(data_dir),
        size_claim=1.0, speed_claim=1e-6, queries=7, **QUICK,
    )  # fmt: skip
    run_bench(config)
    stored = json.loads((out / "report.json").read_text())
    kinds = [one["kind"] for one in stored["comparisons"]]
    apart = ["control", "distillation", "distillation, PyTorch", "onnx", "int8"]
    assert sorted(kinds) == sorted([*apart, *["total", "task lengths", "batching"] * 2])
    for one in stored["comparisons"]:
        a, b = np.array(one["a_samples_ms"]), np.array(one["b_samples_ms"])
        assert len(a) == len(b) == one["pairs"] == 5
        assert one["ratio"] == pytest.approx(np.median(a / b))
        assert one["low"] <= one["ratio"] <= one["high"]
    by_kind = {one["kind"]: one for one in stored["comparisons"]}
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
    assert {one["length"] for one in stored["latency_by_length"]} == {16}
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.html"}
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_sizes_parameters_and_hashes_are_the_files_own(
    tmp_path: Path, baseline: Path, tiny_student: Path, onnx_bundle: Path
) -> None:
    config = BenchConfig(
        bundles=(str(onnx_bundle),), baseline=str(baseline), out=str(tmp_path / "r"), size_claim=1.0, **QUICK
    )
    content = measure(config).content
    base, given = content["models"]
    assert given["size_bytes"] == (onnx_bundle / "model.onnx").stat().st_size
    assert given["files"] == open_bundle(onnx_bundle).manifest["files"]
    assert given["parameters"] == TorchRuntime.load(tiny_student).model.num_parameters()
    assert base["parameters"] == TorchRuntime.load(baseline).model.num_parameters()
    assert given["parameters_with_projection"] - given["parameters"] == 24 * 96
    # an ONNX file is its weights and a graph of some tens of kilobytes
    assert 0 < base["fp32_onnx_bytes"] - 4 * base["parameters"] < 150_000
    claim = next(one for one in content["claims"] if one["claim"] == "size, bundle as given")
    assert claim["measured"] == pytest.approx(base["fp32_onnx_bytes"] / given["size_bytes"])
    assert claim["low"] == claim["high"] == claim["measured"]
    assert content["environment"]["versions"]["onnxruntime"]


def test_claims_missed_after_the_reports_are_written(tmp_path: Path, baseline: Path, onnx_bundle: Path) -> None:
    source = tmp_path / "int8"
    shutil.copytree(onnx_bundle, source)
    config = BenchConfig(bundles=(str(source),), baseline=str(baseline), size_claim=1e6, speed_claim=1e6, **QUICK)
    with pytest.raises(GateError) as caught:
        run_bench(config)
    assert caught.value.exit_code == 1
    assert "3 of 3 claims are not met" in str(caught.value)
    out = tmp_path / "int8-bench"  # the default: beside the first bundle
    stored = json.loads((out / "report.json").read_text())
    assert [one["verdict"] for one in stored["claims"]] == ["FAIL"] * 3
    assert "FAIL" in (out / "report.md").read_text()


def test_bad_input_leaves_nothing_behind(tmp_path: Path, baseline: Path, tiny_student: Path) -> None:
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
        ({"data": str(tmp_path / "none")}, "no such directory"),
    ):
        with pytest.raises(ToolkitError, match=words) as caught:
            measure(replace(config, **changes))
        assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_an_exported_architecture_answers_as_the_model_it_was_built_from(tmp_path: Path, tiny_student: Path) -> None:
    config = open_bundle(tiny_student).config
    export_onnx(config, tmp_path / "model.onnx")
    ids = np.random.default_rng(0).integers(5, 100, (3, 11))
    batch = {"input_ids": ids, "attention_mask": (np.arange(11) < [[11], [7], [3]]).astype(np.int64)}
    batch["token_type_ids"] = np.zeros_like(ids)
    expected = TorchRuntime(build(config, attention="eager")).run(batch)
    found = OnnxRuntime(tmp_path / "model.onnx", threads=1, spinning="running").run(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_other_families_can_be_measured(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    settings = {"vocab_size": 160, "dim": 24, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    model = DistilBertForSequenceClassification(DistilBertConfig(**settings, max_position_embeddings=64))
    model.save_pretrained(tmp_path / "model")
    subject = directory(tmp_path / "model", tmp_path)
    assert subject.parameters == model.num_parameters()
    assert (subject.hidden, subject.max_tokens, subject.vocabulary) == (24, 64, 160)
    assert subject.shape is None
    ids = np.arange(5, 15).reshape(2, 5)
    logits = OnnxRuntime(subject.onnx, threads=1).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert logits.shape == (2, 2)


def test_the_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_student: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = open_bundle(tiny_student).config
    first = cached_onnx(config)
    written = first.stat().st_mtime_ns
    assert cached_onnx(config | {"_name_or_path": "elsewhere"}) == first
    assert first.stat().st_mtime_ns == written
    assert cached_onnx(config | {"num_hidden_layers": 1}) != first
    assert all(path.suffix == ".onnx" for path in first.parent.iterdir())


def test_architectures_are_told_apart(tiny_student: Path) -> None:
    config = open_bundle(tiny_student).config
    renamed = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}, "transformers_version": "9"}
    assert architecture_key(config) == architecture_key(config | renamed)
    assert architecture_key(config) != architecture_key(config | {"hidden_size": 48})
    with pytest.raises(ToolkitError, match="no classifier can be built"):
        build({"model_type": "nonsense"})


def test_building_leaves_torchs_generator_alone(tiny_student: Path) -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build(open_bundle(tiny_student).config)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_tinybert4_against_bert_base(tmp_path: Path, save_model: Callable[..., Path]) -> None:
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
    report = measure(BenchConfig(bundles=(str(tmp_path / "student"),), batch_sizes=(1,)))
    require_claims(report)
    assert [one["parameters"] for one in report.content["models"]] == [109_482_240 + 1538, 14_350_248 + 626]
