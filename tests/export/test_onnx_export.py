"""The float32 graph: every family against PyTorch, by each exporter, without warnings; checks of files; fp16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from export import onnx_export
from export.onnx_export import (
    check_graph,
    count_layers,
    describe_graph,
    export_fp32,
    load_classifier,
    optimum_is_installed,
)
from export.pipeline import run_export
from tests.support.data import dev_texts
from tests.support.exporting import export_loosely
from tests.support.families import FAMILIES, padded_batch, save_family
from tests.support.models import own_answers
from toolkit.bundle.format import write_bundle
from toolkit.config import ExportConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime
from toolkit.tasks import Task

WITH_OPTIMUM = pytest.mark.skipif(not optimum_is_installed(), reason="optimum's exporter is for transformers 4")
BOTH = [pytest.param("optimum", marks=WITH_OPTIMUM), "torch"]


@pytest.fixture(params=BOTH)
def exporter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the exporter that the test exports by."""
    monkeypatch.setattr(onnx_export, "optimum_is_installed", lambda: request.param == "optimum")
    return str(request.param)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_exports_to_the_same_model(family: str, exporter: str, tmp_path: Path) -> None:
    model = load_classifier(save_family(family, tmp_path / "model"))
    assert count_layers(model) == FAMILIES[family][1]
    export_fp32(model, tmp_path / "model.onnx")
    graph, torch_model = OnnxRuntime(tmp_path / "model.onnx", threads=1), TorchRuntime(model)
    for rows, length in ((1, 3), (5, 17), (3, 64)):  # none of these is the shape that was traced
        batch = padded_batch(rows, length)
        if family in ("Roberta", "MPNet"):  # their padding id is 1, and positions are counted from it
            batch["input_ids"][batch["attention_mask"] == 0] = 1
        assert np.abs(graph.run(batch) - torch_model.run(batch)).max() < 1e-5


@WITH_OPTIMUM
@pytest.mark.parametrize("family", FAMILIES)
def test_both_exporters_write_one_graph(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node by node, so that what is made of one, int8 too, is what is made of the other."""
    model, graphs = load_classifier(save_family(family, tmp_path / "model")), []
    for optimum in (True, False):
        monkeypatch.setattr(onnx_export, "optimum_is_installed", lambda optimum=optimum: optimum)
        export_fp32(model, tmp_path / f"{optimum}.onnx")
        graphs.append(onnx.load(tmp_path / f"{optimum}.onnx"))
    assert graphs[0].graph == graphs[1].graph
    assert graphs[0].opset_import == graphs[1].opset_import
    monkeypatch.setattr(onnx_export, "OPSET", 17)  # what another setting changes is seen
    export_fp32(model, tmp_path / "older.onnx")
    assert onnx.load(tmp_path / "older.onnx").graph != graphs[0].graph


@pytest.fixture
def mpnet_student(save_model: Callable[..., Path], tokenizer: Tokenizer, data_dir: Path, tmp_path: Path) -> Path:
    """A PyTorch bundle of an MPNet with random weights that gives each of its two answers."""
    model = load_classifier(save_family("MPNet", tmp_path / "raw"))
    own_answers(model, tokenizer, dev_texts(data_dir))
    task = Task("auto", ("negative", "positive"))
    manifest = {"kind": "student", "task": task.to_dict(), "precision": "fp32", "max_length": 32, "seed": 7}
    with write_bundle(tmp_path / "mpnet", manifest | {"parent": None, "config": {}, "metrics": {}}) as staging:
        save_model(model, staging)
    return tmp_path / "mpnet"


@WITH_OPTIMUM
@pytest.mark.parametrize("student", ["tiny_student", "mpnet_student"])
def test_both_exporters_lead_to_one_int8_model(
    student: str, request: pytest.FixtureRequest, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, logits = request.getfixturevalue(student), []
    for optimum in (True, False):
        monkeypatch.setattr(onnx_export, "optimum_is_installed", lambda optimum=optimum: optimum)
        bundle = export_loosely(source, data_dir, tmp_path / f"int8-{optimum}")
        logits.append(open_predictor(bundle.path, threads=1).predict(dev_texts(data_dir)))
    assert set(logits[0].argmax(axis=1)) == {0, 1}
    assert np.array_equal(logits[0].argmax(axis=1), logits[1].argmax(axis=1))
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


@pytest.mark.usefixtures("exporter")
def test_nothing_is_said_on_the_way(
    tiny_student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    export_fp32(load_classifier(tiny_student), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


@pytest.mark.usefixtures("exporter")
def test_weights_beyond_one_file_stand_beside_it(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")  # optimum's own switch
    monkeypatch.setattr(onnx_export, "WEIGHTS_LIMIT", 1000)
    export_fp32(load_classifier(tiny_student), tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    batch = padded_batch(2, 9)
    expected = TorchRuntime(load_classifier(tiny_student)).run(batch)
    assert np.abs(OnnxRuntime(tmp_path / "model.onnx", threads=1).run(batch) - expected).max() < 1e-5


def test_a_graph_with_a_fixed_length_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_fp32(load_classifier(tiny_student), path)
    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].dim_value = 16
    onnx.save(model, path)
    with pytest.raises(ToolkitError, match="fixes batch size or length of input_ids"):
        check_graph(path)


def test_a_graph_that_is_none_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_fp32(load_classifier(tiny_student), path)
    model = onnx.load(path)
    del model.graph.node[-1]
    onnx.save(model, path)
    with pytest.raises(ToolkitError, match="not a valid ONNX graph"):
        check_graph(path)


def test_an_architecture_that_cannot_be_exported_is_named(exporter: str, tmp_path: Path) -> None:
    """FNet's Fourier transform: ONNX has none for complex numbers, and optimum has no FNet."""
    from transformers import FNetConfig, FNetForSequenceClassification

    config = FNetConfig(vocab_size=90, hidden_size=8, num_hidden_layers=1, intermediate_size=8)
    with pytest.raises(ToolkitError, match="a fnet classifier cannot be exported: ") as caught:
        export_fp32(FNetForSequenceClassification(config).eval(), tmp_path / "model.onnx")
    assert ("fft" if exporter == "torch" else "fnet is not supported") in caught.value.problem
    assert not list(tmp_path.iterdir())


def test_fp16(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = run_export(ExportConfig(str(tiny_student), str(tmp_path / "half"), precision="fp16", data=str(data_dir)))
    fp32 = run_export(ExportConfig(str(tiny_student), str(tmp_path / "full"), precision="fp32", data=str(data_dir)))
    assert bundle.precision == "fp16"
    check_graph(bundle.weights)
    logits = [open_predictor(out.path, threads=1).predict(["a good film", "dull"]) for out in (bundle, fp32)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.01
    model = onnx.load(bundle.weights)
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {onnx.TensorProto.FLOAT}
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}


def test_a_graph_is_described_by_its_versions(tiny_student: Path, tmp_path: Path) -> None:
    export_fp32(load_classifier(tiny_student), tmp_path / "model.onnx")
    description = describe_graph(tmp_path / "model.onnx")
    assert description["opsets"] == {"ai.onnx": 20}
    assert description["nodes"] == len(onnx.load(tmp_path / "model.onnx").graph.node)
