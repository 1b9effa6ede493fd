"""What toolkit export can be asked for: 4 bits, fewer word pieces, fp16, --tune; each through its gates to a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.int8 import quantize
from export.onnx_export import check_graph
from export.pipeline import run_export
from export.tuning import Trial, fastest
from export.tuning_candidates import Candidate
from export.verify import Gate
from tests.support.data import rows, write_csv
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import ExportConfig
from toolkit.errors import GateError, ToolkitError
from toolkit.inference.predictor import open_predictor

LOOSE = 15.0  # points: many rows of a random model lie near its boundary


def export(source: Path, data: Path, out: Path, **options: object) -> Bundle:
    return run_export(ExportConfig(str(source), str(out), data=str(data), max_drop=LOOSE, **options))  # type: ignore[arg-type]


def test_int8_is_calibrated_on_train_rows(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export(tiny_student, data_dir, tmp_path / "int8")
    assert bundle.manifest["quantization"]["calibrated"]
    assert bundle.manifest["data"]["calibration"] != bundle.manifest["data"]["dev"]
    assert bundle.manifest["graph"]["opsets"] == {"ai.onnx": 21, "com.microsoft": 1}
    assert bundle.manifest["graph"]["ir_version"] == 10
    assert bundle.manifest["gates"]["max_batch_difference"] <= 1e-5


def test_calibration_by_a_file_of_text(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "dev.csv").write_bytes((data_dir / "dev.csv").read_bytes())
    text = tmp_path / "more.txt"
    text.write_text("\n".join(text for text, _ in rows(80, seed=9)))
    bundle = export(tiny_student, tmp_path / "dev", tmp_path / "int8", calibration=str(text))
    assert bundle.manifest["quantization"]["calibrated"]
    plain = export(tiny_student, tmp_path / "dev", tmp_path / "plain")  # no train rows there
    assert not plain.manifest["quantization"]["calibrated"]
    with pytest.raises(ToolkitError, match="4 bits are rounded by the task's text") as caught:
        export(tiny_student, tmp_path / "dev", tmp_path / "four", embedding_bits=4)
    assert "--calibration FILE" in caught.value.fix


@pytest.mark.parametrize("bits", [4, 2])
def test_few_bits(bits: int, tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export(tiny_student, data_dir, tmp_path / "few", embedding_bits=bits)
    tables = bundle.manifest["quantization"]["embedding"]
    assert {name.split(".")[-1]: table["bits"] for name, table in tables.items()} == {
        "word_embeddings": bits, "position_embeddings": 8, "token_type_embeddings": 8,
    }  # fmt: skip
    words = {one.name: one for one in onnx.load(bundle.weights).graph.initializer}
    packed = next(one for name, one in words.items() if name.endswith(f"_int{bits}"))
    assert list(packed.dims) == [tables["bert.embeddings.word_embeddings"]["rows"], 3 * bits]  # of 24 numbers
    assert bundle.manifest["gates"]["max_batch_difference"] <= 1e-5


def test_a_smaller_vocabulary(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    sentences = ["the film was good", "a bad plot", "this scene is dull and bad", "the story was very warm"]
    for split in ("train", "dev"):
        write_csv(tmp_path / f"{split}.csv", [(text, row % 2) for row, text in enumerate(sentences * 3)])
    more = tmp_path / "more.txt"
    more.write_text("a lovely story\n")
    bundle = export(tiny_student, tmp_path, tmp_path / "all", trim_vocabulary=(str(more),))
    assert bundle.manifest["gates"]["agreement"] == 1.0  # no word of dev was cut in other pieces
    assert bundle.manifest["vocabulary"]["kept"] == bundle.config["vocab_size"] < bundle.manifest["vocabulary"]["of"]
    positions = next(one for one in onnx.load(bundle.weights).graph.initializer if "position" in one.name)
    assert positions.dims[0] == bundle.max_length == bundle.config["max_position_embeddings"]
    assert bundle.manifest["vocabulary"]["positions"] == bundle.max_length
    some = bundle.manifest["vocabulary"]["kept"] - 1
    fewer = export(tiny_student, tmp_path, tmp_path / "some", trim_vocabulary=(str(more),), max_pieces=some)
    assert fewer.config["vocab_size"] == some
    predictor = open_predictor(bundle.path, threads=1)
    assert np.isfinite(predictor.predict(["an unheard-of film", "zzz"])).all()
    write_csv(tmp_path / "dev.csv", rows(60, seed=3))
    # words that neither text has are read in single letters, which this model never learnt: counted against it
    with pytest.raises(GateError, match="label agreement"):
        run_export(
            ExportConfig(str(tiny_student), str(tmp_path / "few"), data=str(tmp_path), trim_vocabulary=(str(more),))
        )
    assert not (tmp_path / "few").exists()


def test_fp16(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = run_export(ExportConfig(str(tiny_student), str(tmp_path / "half"), precision="fp16", data=str(data_dir)))
    fp32 = run_export(ExportConfig(str(tiny_student), str(tmp_path / "full"), precision="fp32", data=str(data_dir)))
    assert bundle.precision == "fp16"
    check_graph(bundle.weights)
    logits = [open_predictor(one.path, threads=1).predict(["a good film", "dull"]) for one in (bundle, fp32)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.01
    model = onnx.load(bundle.weights)
    assert {one.type.tensor_type.elem_type for one in model.graph.output} == {onnx.TensorProto.FLOAT}
    weights = [one for one in model.graph.initializer if len(one.dims) == 2]
    assert {one.data_type for one in weights} == {onnx.TensorProto.FLOAT16}


def test_options_that_do_not_go_together(tiny_student: Path, tmp_path: Path) -> None:
    config = ExportConfig(str(tiny_student), str(tmp_path / "out"), precision="fp16", embedding_bits=4, tune=True)
    with pytest.raises(ToolkitError, match="2 problems"):
        config.check()
    with pytest.raises(ToolkitError, match="expected 8, 4 or 2"):
        ExportConfig(str(tiny_student), str(tmp_path / "out"), embedding_bits=6).check()


def test_tune_judges_all_and_keeps_one(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    bundle = export(tiny_student, data_dir, tmp_path / "tuned", tune=True)
    trials = {trial["name"]: trial for trial in bundle.manifest["tuning"]}
    assert len(trials) == 8
    kept = bundle.manifest["quantization"]["candidate"]
    assert trials[kept]["passed"]
    assert trials[kept]["latency_ms"] == min(one["latency_ms"] for one in trials.values() if one["passed"])
    assert bundle.precision == trials[kept]["precision"]
    control = trials["onnxruntime dynamic int8"]
    assert not control["passed"]
    assert any("by batch or padding" in missed for missed in control["missed"])
    for name in ("int8, fixed scales", "int8, packed QKV", "int8, one scale a token", "fp32", "fp32, fused"):
        assert trials[name]["passed"], trials[name]
    assert trials["int8, packed QKV"]["agreement"] == trials["int8, fixed scales"]["agreement"]
    assert open_bundle(bundle.path).digest == bundle.digest


def trial(name: str, latency_ms: float, value: float = 0.0, fault: str = "") -> Trial:
    gates = [Gate("accuracy lost, points", value, 0.5)]
    found = Trial(Candidate(name, "int8", lambda path: None), fault=fault, gates=[] if fault else gates)
    found.samples_ms = [latency_ms]
    if not fault:
        found.measured = object()  # type: ignore[assignment]
    return found


def test_the_fastest_that_passes() -> None:
    trials = [trial("slow", 3.0), trial("quick", 2.0), trial("wrong", 1.0, value=0.6), trial("broken", 0.5, fault="no")]
    assert fastest(trials, "model").candidate.name == "quick"
    with pytest.raises(GateError) as caught:
        fastest(trials[2:], "model")
    assert "wrong: accuracy lost, points: 0.6, expected at most 0.5" in str(caught.value)
    assert "broken: no" in str(caught.value)


def test_a_layer_left_out_trips_the_count(
    tiny_student: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = quantize._Quantizer.linear
    monkeypatch.setattr(
        quantize._Quantizer, "linear", lambda self, node: linear(self, node) and "layer.1/output" not in node.name
    )
    with pytest.raises(GateError, match="20 linear layers and 3 embedding tables, its graph 19 and 3"):
        export(tiny_student, data_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()
