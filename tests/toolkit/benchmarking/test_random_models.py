"""Random models: one architecture, one graph, by the exporter that ships; the cache keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.benchmarking.random_models import Exporter, architecture_key, build, cached_onnx, export_random
from toolkit.bundle.format import open_bundle
from toolkit.bundle.weights import operators
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime


def test_an_exported_architecture_answers_as_the_model_it_was_built_from(
    tmp_path: Path, tiny_student: Path, exporter: Exporter
) -> None:
    config = open_bundle(tiny_student).config
    path = export_random(config, tmp_path / "model", exporter)
    ids = np.random.default_rng(0).integers(5, 100, (3, 11))
    batch = {"input_ids": ids, "attention_mask": (np.arange(11) < [[11], [7], [3]]).astype(np.int64)}
    batch["token_type_ids"] = np.zeros_like(ids)
    expected = TorchRuntime(build(config, attention="eager")).run(batch)
    logits = OnnxRuntime(path, threads=1, spinning="running").run(batch)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert [path.name for path in path.parent.iterdir()] == ["model.onnx"]


def test_the_graph_is_the_one_that_ships(tmp_path: Path, tiny_student: Path, exporter: Exporter) -> None:
    """The same exporter as `toolkit export --fp32` makes the same operators of random weights."""
    from export.onnx_export import export_fp32, load_classifier

    trained = load_classifier(tiny_student)
    for number, parameter in enumerate(trained.parameters()):  # fresh biases are equal, and would be stored once
        parameter.data += number * 1e-3
    shipped = tmp_path / "shipped.onnx"
    export_fp32(trained, shipped)
    path = export_random(open_bundle(tiny_student).config, tmp_path / "random", exporter)
    assert operators(path) == operators(shipped)
    assert path.stat().st_size == pytest.approx(shipped.stat().st_size, rel=0.01)


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path, tiny_student: Path) -> None:
    def fail(model: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise ToolkitError("no space")

    with pytest.raises(ToolkitError, match="no space"):
        export_random(open_bundle(tiny_student).config, tmp_path / "model", fail)
    assert list(tmp_path.iterdir()) == []


def test_external_data_move_with_the_graph(tmp_path: Path, tiny_student: Path) -> None:
    def export(model: Any, path: Path) -> None:
        path.write_bytes(b"graph")
        path.with_name(f"{path.name}_data").write_bytes(b"weights")

    written = export_random(open_bundle(tiny_student).config, tmp_path / "model", export)
    assert {path.name: path.read_bytes() for path in written.parent.iterdir()} == {
        "model.onnx": b"graph", "model.onnx_data": b"weights",
    }  # fmt: skip


def test_the_cache_is_filled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_student: Path, exporter: Exporter
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = open_bundle(tiny_student).config
    first = cached_onnx(config, exporter)
    written = first.stat().st_mtime_ns
    assert cached_onnx(config | {"_name_or_path": "elsewhere"}, exporter) == first
    assert first.stat().st_mtime_ns == written
    assert cached_onnx(config | {"num_hidden_layers": 1}, exporter) != first
    assert all(path.suffix == ".onnx" for path in first.parent.iterdir())


def test_another_exporter_or_version_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_student: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = open_bundle(tiny_student).config

    def first(model: Any, path: Path) -> None:
        path.write_bytes(b"first")

    def second(model: Any, path: Path) -> None:
        path.write_bytes(b"second")

    paths = [cached_onnx(config, export) for export in (first, second, first)]
    assert [path.read_bytes() for path in paths] == [b"first", b"second", b"first"]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert cached_onnx(config, first) not in paths


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
