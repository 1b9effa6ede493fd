"""The float32 graph: every family against PyTorch, without warnings; checks of graph files; half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.onnx_export import check_graph, count_layers, describe_graph, export_fp32, load_classifier
from export.pipeline import run_export
from tests.support.families import FAMILIES, padded_batch, save_family
from toolkit.config import ExportConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_exports_to_the_same_model(family: str, tmp_path: Path) -> None:
    model = load_classifier(save_family(family, tmp_path / "model"))
    assert count_layers(model) == FAMILIES[family][1]
    export_fp32(model, tmp_path / "model.onnx")
    graph, torch_model = OnnxRuntime(tmp_path / "model.onnx", threads=1), TorchRuntime(model)
    for rows, length in ((1, 3), (5, 17), (3, 64)):  # none of these is the shape that was traced
        batch = padded_batch(rows, length)
        if family in ("Roberta", "MPNet"):  # their padding id is 1, and positions are counted from it
            batch["input_ids"][batch["attention_mask"] == 0] = 1
        assert np.abs(graph.run(batch) - torch_model.run(batch)).max() < 1e-5


def test_nothing_is_said_on_the_way(
    tiny_student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    export_fp32(load_classifier(tiny_student), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_weights_beyond_one_file_stand_beside_it(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1")
    export_fp32(load_classifier(tiny_student), tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    monkeypatch.delenv("FORCE_ONNX_EXTERNAL_DATA")
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


def test_an_architecture_that_optimum_lacks_is_named(tmp_path: Path, tiny_bert: Callable[..., object]) -> None:
    model = tiny_bert()
    model.config.model_type = "funnel"  # type: ignore[attr-defined]
    with pytest.raises(ToolkitError, match="cannot export a funnel classifier"):
        export_fp32(model, tmp_path / "model.onnx")
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
