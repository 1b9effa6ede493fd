"""The last bundle shows the whole chain; sizes by part are worked out by hand; nothing heavy is loaded."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from export.pipeline import run_export
from toolkit.bundle.format import new_manifest, open_bundle, write_bundle
from toolkit.bundle.provenance import origin
from toolkit.bundle.weights import operators, weight_parts
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.cli.main import app
from toolkit.config import DistillConfig, ExportConfig, FinetuneConfig
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError
from toolkit.tasks import Task
from toolkit.training.finetune import run_finetune

HIDDEN, FFN, LAYERS, VOCABULARY = 24, 48, 3, 98  # of conftest's tiny_bert


def printed(path: Path) -> str:
    out = io.StringIO()
    Console(file=out, width=1000, markup=False, highlight=False).print(inspect_bundle(path))
    return out.getvalue()


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path
) -> dict[str, Path]:
    """encoder -> teacher -> student -> finished student -> int8, each made by its real command."""
    folder, data = tmp_path_factory.mktemp("chain"), str(data_dir)
    made = {name: folder / name for name in ("encoder", "teacher", "student", "finished", "int8")}
    save_model(tiny_bert(initializer_range=0.05), made["encoder"])
    run_finetune(FinetuneConfig(str(made["encoder"]), "auto", str(made["teacher"]), data=data, epochs=6, lr=5e-3))
    common: dict[str, Any] = {"data": data, "student": "2/16/32/4", "prediction_epochs": 1}
    teacher = str(made["teacher"])
    run_distill(DistillConfig(teacher, "auto", str(made["student"]), intermediate_epochs=1, **common))
    finish = {"init": str(made["student"]), "intermediate_epochs": 0, "quantization_aware": True}
    run_distill(DistillConfig(teacher, "auto", str(made["finished"]), **finish, **common))
    run_export(ExportConfig(str(made["finished"]), str(made["int8"]), data=data, max_drop=100.0))
    return made


def test_the_last_link_shows_the_whole_chain(chain: dict[str, Path], tmp_path: Path) -> None:
    bundles = {name: open_bundle(path) for name, path in chain.items() if name != "encoder"}
    manifest = bundles["int8"].manifest
    finished = manifest["made_from"]["student"]
    assert finished["digest"] == manifest["parent"] == bundles["finished"].digest
    assert finished["made_from"]["start"]["digest"] == bundles["student"].digest
    for child in (finished, finished["made_from"]["start"]):
        teacher = child["made_from"]["teacher"]
        assert teacher["digest"] == bundles["teacher"].digest
        assert teacher["data"] == bundles["teacher"].manifest["data"]
    encoder = teacher["made_from"]["encoder"]
    assert encoder["weights_sha256"] == origin(str(chain["encoder"]))["weights_sha256"]
    assert len(str(manifest["made_from"])) < 5000, "compact: no histories, no file lists"

    alone = printed(shutil.copytree(chain["int8"], tmp_path / "alone"))
    lines = alone.splitlines()
    for name, bundle in bundles.items():
        assert bundle.digest[:12] in alone, name
    depth = {
        name: next(line.index(f"─ {name}") for line in lines if f"─ {name}" in line)
        for name in ("student ", "start ", "encoder ")
    }
    assert depth["student "] < depth["start "] < depth["encoder "]
    assert encoder["weights_sha256"][:12] in alone
    assert manifest["data"]["dev"][:12] in alone
    assert bundles["teacher"].manifest["data"]["train"][:12] in alone


def test_it_shows_gates_metrics_options_and_operators(chain: dict[str, Path]) -> None:
    text, manifest = printed(chain["int8"]), open_bundle(chain["int8"]).manifest
    assert "gates, against PyTorch on 96 dev rows" in text
    assert "step chosen by 64 rows of train" in printed(chain["student"])
    assert f"─ dev: accuracy {100 * manifest['metrics']['accuracy']:.2f}" in text
    for gate in manifest["gates"]["verdicts"]:
        bound = "at least" if gate["lower"] else "at most"
        assert f"{gate['name']}: {gate['value']:.4g}, {bound} {gate['bound']:g}: held" in text
    assert f"dev: accuracy {100 * manifest['metrics']['accuracy']:.2f}, f1" in text
    assert "max-drop 100.0" in text
    assert "layout" not in text, "a default is no highlight"
    assert "trim-vocabulary" not in text, "nor one that JSON writes as a list"
    assert "MatMulIntegerToFloat 13" in text
    worst = max(layer["max_int16"] for layer in manifest["quantization"]["linear"].values())
    assert f"{worst:,} of 32,767: nothing saturates" in text
    assert "quantization-aware True" in printed(chain["finished"])


def test_sizes_by_part_of_an_int8_graph(chain: dict[str, Path]) -> None:
    """int8 weights with float32 scales and biases; names such as onnx::MatMul_42 are placed by their readers."""
    path, hidden, ffn, layers = chain["int8"] / "model.onnx", 16, 32, 2
    parts = weight_parts(path)
    attention = 4 * (hidden * hidden + 4 * hidden + 4 * hidden) + 4 * 2 * hidden
    assert 0 <= parts["attention"].size_bytes - layers * attention < 600  # shapes and other small constants beside
    rest = 2 * hidden * ffn + 2 * 4 * (ffn + hidden) + 4 * 2 * hidden
    assert 0 <= parts["feed-forward"].size_bytes - layers * rest < 100
    rows = VOCABULARY + 64 + 2
    assert 0 <= parts["embeddings"].size_bytes - (rows * (hidden + 4) + 4 * 2 * hidden) < 700
    assert sum(part.size_bytes for part in parts.values()) == path.stat().st_size
    assert operators(path).total() == len(onnx.load(path).graph.node)


def test_without_onnx_the_rest_is_shown(chain: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    text = printed(chain["int8"])
    assert "pip install 'tinybert-toolkit[export]'" in text
    assert "made from" in text


def test_names_with_brackets_are_shown_as_they_are(tiny_bert: Any, save_model: Any, tmp_path: Path) -> None:
    task = Task("auto", ("[bold]no", "[/]yes"), metrics=("accuracy",))
    manifest = {
        "kind": "student", "task": task.to_dict(), "precision": "fp32", "max_length": 32, "parent": "0123456789abcdef",
        "config": {}, "seed": 0, "metrics": {},
    }  # fmt: skip
    with write_bundle(tmp_path / "b", manifest) as staging:
        save_model(tiny_bert(), staging)
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "b")])
    assert done.exit_code == 0
    assert "auto ([bold]no, [/]yes), texts up to 32 tokens" in done.output
    assert "0123456789ab, by a toolkit that kept no more of it" in done.output


def test_a_tuned_export_names_its_candidate(tiny_onnx: Path, tmp_path: Path) -> None:
    source = open_bundle(tiny_onnx)
    manifest = new_manifest(
        "onnx", source.manifest["task"], max_length=32, parent=None, made_from={}, config={}, seed=0, data={}
    )
    manifest["quantization"] = {"candidate": "int8, fused"}
    with write_bundle(tmp_path / "b", manifest) as staging:
        for name in source.manifest["files"]:
            shutil.copy(tiny_onnx / name, staging)
    assert "─ tuned: int8, fused\n" in printed(tmp_path / "b")


def test_a_general_student_has_no_task_and_many_sources(tiny_bert: Any, save_model: Any, tmp_path: Path) -> None:
    sources = [{"path": f"books/{i}.txt", "sha256": f"{i}" * 64, "size_bytes": 1000 + i} for i in range(3)]
    manifest = {
        "kind": "general", "task": None, "precision": "fp32", "max_length": 128, "parent": None, "seed": 0,
        "config": {"corpus": ["books"], "general": True}, "metrics": {},
        "data": {"sources": sources, "documents": 12, "sha256": "f" * 64},
        "made_from": {"teacher": origin("bert-base-uncased", "86b5e0934494bd15")},
    }  # fmt: skip
    with write_bundle(tmp_path / "b", manifest) as staging:
        save_model(tiny_bert(), staging)
    text = printed(tmp_path / "b")
    assert "task: none yet" in text
    for line in ("data, sources: books/2.txt, 222222222222, 1002", "data, documents: 12", "data, sha256: ffffffffffff"):
        assert f"─ {line}\n" in text
    assert "teacher bert-base-uncased (model): 86b5e0934494" in text
    assert "general True" in text


def test_a_damaged_bundle_is_not_shown(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ToolkitError, match=r"tokenizer\.json is damaged"):
        inspect_bundle(str(copy))


def test_a_bill_of_materials_is_written_beside_a_bundle_and_never_into_it(tiny_onnx: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(tiny_onnx), "--bom", str(tmp_path / "bill.json")])
    assert done.exit_code == 0
    bill = json.loads((tmp_path / "bill.json").read_text())
    assert bill["metadata"]["component"]["version"] == open_bundle(tiny_onnx).digest[:12]
    done = CliRunner().invoke(app, ["inspect", str(tiny_onnx), "--bom", str(tiny_onnx / "bill.json")])
    assert "whose files are sealed" in str(done.exception)
    open_bundle(tiny_onnx)


def test_it_loads_neither_torch_nor_onnxruntime(tiny_onnx: Path) -> None:
    program = (
        f"import sys; sys.argv = ['toolkit', 'inspect', {str(tiny_onnx)!r}]\n"
        "from toolkit.cli.main import app\napp(standalone_mode=False)\n"
        "print({'torch', 'transformers', 'onnxruntime', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
