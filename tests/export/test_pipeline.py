"""Exported bundles: their manifest, that Hugging Face opens them, and that a missed gate writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import pipeline
from export.pipeline import run_export
from tests.support.data import dev_texts, rows, write_csv
from tests.support.exporting import export_loosely
from toolkit.bundle.format import Bundle, open_bundle, write_bundle
from toolkit.config import ExportConfig
from toolkit.data.datasets import load_split
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import TorchRuntime, batched_logits
from toolkit.tasks import Task

LOOSE = 6.0  # points: half the rows of a random model lie near its boundary


@pytest.fixture(scope="module")
def source(
    tiny_bert: Callable[..., object], save_model: Callable[..., Path], data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """A PyTorch bundle with random weights that gives each of its two answers to half of the dev rows."""
    import torch

    folder = tmp_path_factory.mktemp("source")
    raw = save_model(tiny_bert(), folder / "raw")
    encoded = TextEncoder(raw, 32).encode(dev_texts(data_dir))
    model = tiny_bert()
    logits = batched_logits(TorchRuntime(model), encoded)
    with torch.no_grad():
        model.classifier.bias[1] -= float(np.median(logits[:, 1] - logits[:, 0]))  # type: ignore[attr-defined]
        model.classifier.weight *= 4  # type: ignore[attr-defined]
        model.classifier.bias *= 4  # type: ignore[attr-defined]
    task = Task("auto", ("negative", "positive"), metrics=("accuracy", "f1"))
    manifest = {
        "kind": "student", "task": task.to_dict(), "precision": "fp32", "max_length": 32, "parent": None,
        "config": {}, "seed": 7, "metrics": {},
    }  # fmt: skip
    with write_bundle(folder / "student", manifest) as staging:
        save_model(model, staging)
    return folder / "student"


@pytest.fixture(scope="module")
def own_answers(source: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dev rows labelled by the PyTorch model itself, so that it scores 100 % and every other answer costs."""
    texts = dev_texts(data_dir)
    decisions = open_predictor(source).predict(texts).argmax(axis=1)
    assert decisions.sum() == len(texts) // 2
    folder = tmp_path_factory.mktemp("own")
    write_csv(folder / "dev.csv", list(zip(texts, decisions.tolist(), strict=True)))
    return folder


def test_gates_are_held_on_dev_and_test_is_scored(source: Path, own_answers: Path, tmp_path: Path) -> None:
    data = shutil.copytree(own_answers, tmp_path / "data")
    dev = (data / "dev.csv").read_text()
    flipped = dev.replace("negative", "?").replace("positive", "negative").replace("?", "positive")
    (data / "test.csv").write_text(flipped)
    manifest = run_export(ExportConfig(str(source), str(tmp_path / "out"), precision="fp32", data=str(data))).manifest
    assert (manifest["split"], manifest["metrics"]["accuracy"]) == ("test", 0.0), "what test says holds no gate"
    assert manifest["dev_scores"]["metrics"] == manifest["gates"]["metrics"]
    assert manifest["gates"]["metrics"]["accuracy"] == 1.0
    assert set(manifest["data"]) == {"dev", "test"}


@pytest.fixture(scope="module")
def exported(source: Path, own_answers: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("exported") / "int8"
    return run_export(ExportConfig(source=str(source), out=str(out), data=str(own_answers), max_drop=LOOSE))


def test_the_bundle_says_what_it_is(exported: Bundle, source: Path, own_answers: Path) -> None:
    manifest = open_bundle(exported.path).manifest
    parent = open_bundle(source)
    assert (exported.kind, exported.precision, exported.max_length) == ("onnx", "int8", parent.max_length)
    assert manifest["parent"] == parent.digest
    assert manifest["task"] == parent.manifest["task"]
    assert manifest["seed"] == parent.manifest["seed"]
    assert set(manifest["metrics"]) == {"accuracy", "f1"}
    assert manifest["data"] == {"dev": load_split(exported.task, "dev", own_answers).digest}
    assert manifest["gates"]["rows"] == 96
    assert manifest["config"]["max_drop"] == LOOSE
    assert manifest["gates"]["max_batch_difference"] <= 1e-5
    assert all(verdict["passed"] for verdict in manifest["gates"]["verdicts"])
    record = manifest["quantization"]
    assert (record["linear_nodes"], record["embedding_nodes"]) == (19, 3)
    assert all(layer["max_int16"] <= record["int16_limit"] for layer in record["linear"].values())
    assert "bert.encoder.layer.2.output.dense" in record["linear"]
    assert {path.name for path in exported.path.iterdir()} >= {"model.onnx", "config.json", "tokenizer.json"}
    assert not list(exported.path.rglob("*.safetensors"))


def test_hugging_face_opens_it_and_agrees(exported: Bundle, data_dir: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    ORTModelForSequenceClassification = pytest.importorskip("optimum.onnxruntime").ORTModelForSequenceClassification

    texts = dev_texts(data_dir)[:16]
    model = ORTModelForSequenceClassification.from_pretrained(exported.path)
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=exported.max_length, return_tensors="pt")
    reference = torch.softmax(model(**inputs).logits, dim=-1).numpy()
    ours = open_predictor(exported.path, threads=1).predict(texts)
    assert np.abs(reference - ours).max() < 1e-5
    assert reference.argmax(axis=1).tolist() == ours.argmax(axis=1).tolist()
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_fp32_gives_the_models_own_answers(source: Path, own_answers: Path, tmp_path: Path) -> None:
    config = ExportConfig(source=str(source), out=str(tmp_path / "fp32"), precision="fp32", data=str(own_answers))
    bundle = run_export(config)
    assert bundle.precision == "fp32"
    assert "quantization" not in bundle.manifest
    assert bundle.manifest["gates"]["agreement"] == 1.0
    assert bundle.manifest["gates"]["max_difference"] <= 1e-4
    texts = dev_texts(own_answers)
    ours = open_predictor(bundle.path, threads=1).predict(texts)
    assert np.abs(ours - open_predictor(source).predict(texts)).max() < 1e-4


def test_a_pair_task_of_ones_own(
    tiny_bert: Callable[..., object], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    task = Task("auto", ("score",), kind="regression", metrics=("pearson",), pair_column="text_pair")
    manifest = {
        "kind": "teacher", "task": task.to_dict(), "precision": "fp32", "max_length": 32, "parent": None,
        "config": {}, "seed": 0, "metrics": {},
    }  # fmt: skip
    with write_bundle(tmp_path / "teacher", manifest) as staging:
        save_model(tiny_bert(id2label={0: "score"}, label2id={"score": 0}), staging)
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"the film,{word} story,{i / 7}" for i, word in enumerate(("good", "bad", "dull", "warm", "flat") * 4)]
    (data / "dev.csv").write_text("\n".join(["text,text_pair,label", *lines]) + "\n")
    config = ExportConfig(str(tmp_path / "teacher"), str(tmp_path / "int8"), data=str(data), max_drop=50.0)
    bundle = run_export(config)
    assert bundle.manifest["gates"]["agreement"] is None
    assert bundle.task == open_bundle(tmp_path / "teacher").task


def refused(config: ExportConfig, error: type[ToolkitError], match: str) -> ToolkitError:
    out = Path(config.out)
    before = sorted(out.parent.iterdir())
    with pytest.raises(error, match=match) as caught:
        run_export(config)
    assert sorted(out.parent.iterdir()) == before, "something was left behind"
    return caught.value


def swap_classes(model: onnx.ModelProto) -> None:
    """Exchange the two outputs of the layer that gives the logits."""
    for tensor in model.graph.initializer:
        if tensor.name in ("classifier.weight", "classifier.bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))


def test_swapped_labels_trip_the_int8_gate(
    source: Path, own_answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = pipeline.save_graph

    def swapped(model: onnx.ModelProto, path: Path) -> None:
        swap_classes(model)
        save(model, path)

    monkeypatch.setattr(pipeline, "save_graph", swapped)
    config = ExportConfig(str(source), str(tmp_path / "out"), data=str(own_answers), max_drop=20.0)
    error = refused(config, GateError, r"accuracy lost, points: \d+.*, expected at most 20")
    assert error.exit_code == 1
    assert "--max-drop" in error.fix


def test_a_tampered_weight_trips_the_fp32_gate(
    source: Path, own_answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = pipeline.export_fp32

    def tampered(model: object, path: Path) -> None:
        export(model, path)
        graph = onnx.load(path)
        weight = next(tensor for tensor in graph.graph.initializer if tensor.name == "classifier.weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), weight.name))
        onnx.save(graph, path)

    monkeypatch.setattr(pipeline, "export_fp32", tampered)
    config = ExportConfig(str(source), str(tmp_path / "out"), precision="fp32", data=str(own_answers))
    refused(config, GateError, "largest logit difference: .* expected at most 0.0001")


def test_a_missed_gate_leaves_an_earlier_bundle_alone(
    exported: Bundle, source: Path, own_answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(exported.path, tmp_path / "out")
    save = pipeline.save_graph
    monkeypatch.setattr(pipeline, "save_graph", lambda model, path: (swap_classes(model), save(model, path)))
    config = ExportConfig(str(source), str(out), data=str(own_answers), overwrite=True)
    refused(config, GateError, "misses [1-4] of 5 gates")
    assert open_bundle(out).digest == exported.digest


def test_sources_that_cannot_be_exported(exported: Bundle, source: Path, data_dir: Path, tmp_path: Path) -> None:
    out, data = str(tmp_path / "out"), str(data_dir)
    assert refused(ExportConfig(data, out, data=data), ToolkitError, "is not a bundle").exit_code == 2
    refused(ExportConfig(str(tmp_path / "none"), out, data=data), ToolkitError, "no such directory")
    refused(
        ExportConfig(str(exported.path), out, data=data),
        ToolkitError,
        "a bundle of kind onnx, which cannot be exported",
    )
    refused(ExportConfig(str(source), str(source), data=data), ToolkitError, "holds the source")
    refused(ExportConfig(str(source), str(source / "int8"), data=data), ToolkitError, "lies in the source")
    refused(ExportConfig(str(source), out), ToolkitError, "whose rows only you have")
    refused(ExportConfig(str(source), out, precision="int4", max_drop=-1.0), ToolkitError, "2 problems")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    refused(ExportConfig(str(source), str(tmp_path / "full"), data=data), ToolkitError, "is not overwritten")


def test_data_of_another_task_is_refused(source: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "dev.csv", [("a fine film", 1)])
    text = (tmp_path / "dev.csv").read_text().replace("positive", "sports")
    (tmp_path / "dev.csv").write_text(text)
    config = ExportConfig(str(source), str(tmp_path / "out"), data=str(tmp_path))
    refused(config, ToolkitError, "'sports', expected one of negative, positive")


def test_a_flipped_byte_in_source_or_result_is_named(
    exported: Bundle, source: Path, data_dir: Path, tmp_path: Path
) -> None:
    for path, name in ((source, "model.safetensors"), (exported.path, "model.onnx")):
        copy = shutil.copytree(path, tmp_path / name)
        raw = bytearray((copy / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (copy / name).write_bytes(raw)
        config = ExportConfig(str(copy), str(tmp_path / "out"), data=str(data_dir))
        refused(config, ToolkitError, f"{name} is damaged")


def test_options_that_do_not_go_together(tiny_student: Path, tmp_path: Path) -> None:
    config = ExportConfig(str(tiny_student), str(tmp_path / "out"), precision="fp16", embedding_bits=4, tune=True)
    with pytest.raises(ToolkitError, match="2 problems"):
        config.check()
    with pytest.raises(ToolkitError, match="expected 8, 4 or 2"):
        ExportConfig(str(tiny_student), str(tmp_path / "out"), embedding_bits=6).check()


def test_a_smaller_vocabulary(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    sentences = ["the film was good", "a bad plot", "this scene is dull and bad", "the story was very warm"]
    for split in ("train", "dev"):
        write_csv(tmp_path / f"{split}.csv", [(text, row % 2) for row, text in enumerate(sentences * 3)])
    more = tmp_path / "more.txt"
    more.write_text("a lovely story\n")
    bundle = export_loosely(tiny_student, tmp_path, tmp_path / "all", trim_vocabulary=(str(more),))
    assert bundle.manifest["gates"]["agreement"] == 1.0  # no word of dev was cut in other pieces
    assert bundle.manifest["vocabulary"]["kept"] == bundle.config["vocab_size"] < bundle.manifest["vocabulary"]["of"]
    positions = next(tensor for tensor in onnx.load(bundle.weights).graph.initializer if "position" in tensor.name)
    assert positions.dims[0] == bundle.max_length == bundle.config["max_position_embeddings"]
    assert bundle.manifest["vocabulary"]["positions"] == bundle.max_length
    some = bundle.manifest["vocabulary"]["kept"] - 1
    fewer = export_loosely(tiny_student, tmp_path, tmp_path / "some", trim_vocabulary=(str(more),), max_pieces=some)
    assert fewer.config["vocab_size"] == some
    predictor = open_predictor(bundle.path, threads=1)
    assert np.isfinite(predictor.predict(["an unheard-of film", "zzz"])).all()
    write_csv(tmp_path / "dev.csv", rows(60, seed=3))
    # words of neither text are written in single letters, which this model was not trained on: the gate counts that
    with pytest.raises(GateError, match="accuracy lost"):
        run_export(
            ExportConfig(str(tiny_student), str(tmp_path / "few"), data=str(tmp_path), trim_vocabulary=(str(more),))
        )
    assert not (tmp_path / "few").exists()
