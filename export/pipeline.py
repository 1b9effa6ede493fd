"""`toolkit export`: a PyTorch bundle to a verified ONNX bundle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from export.triton import write_triton
from toolkit.bundle import Bundle, check_target, open_bundle, write_bundle
from toolkit.config import ExportConfig
from toolkit.console import say, show_table
from toolkit.data import Split, load_split
from toolkit.errors import ToolkitError, require
from toolkit.predictor import OnnxRuntime, TorchRuntime
from toolkit.provenance import origin
from toolkit.tasks import TASKS, Task
from toolkit.text import TextEncoder

MODEL = "model.onnx"
# what AutoConfig and AutoTokenizer read, for every tokenizer family
COPIED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip


def run_export(config: ExportConfig) -> Bundle:
    """Export a bundle to ONNX, prove on dev that it gives the same answers, and write it.

    Raises:
        ToolkitError: a source that cannot be exported, data that do not fit its task, or a target in the way.
        GateError: the graph gives other answers than the PyTorch model; nothing is written.
    """
    config.check()
    require("torch", "transformers", "optimum", "onnx", "onnxruntime", purpose="toolkit export")
    source = open_bundle(config.source)
    _check_source(source, Path(config.out))
    task = source.task
    dev = load_dev(task, config.data)
    manifest: dict[str, Any] = {
        "kind": "onnx", "task": source.manifest["task"], "precision": config.precision,
        "max_length": source.max_length, "parent": source.digest, "config": config.to_json(),
        "made_from": {source.kind: origin(config.source)},
        "seed": source.manifest.get("seed"), "data": {"dev": dev.digest},
    }  # fmt: skip
    if "teacher_metrics" in source.manifest:
        manifest["teacher_metrics"] = source.manifest["teacher_metrics"]  # so that a report can tell what was kept
    with write_bundle(config.out, manifest) as staging:
        for name in COPIED:
            if name in source.manifest["files"]:
                shutil.copyfile(source.path / name, staging / name)
        reference = _write_model(source, config.precision, staging, manifest)
        _verify(source, task, dev, reference, staging / MODEL, config, manifest)
        if config.layout == "triton":
            write_triton(staging, task, config.precision)
    bundle = open_bundle(config.out)
    say(f"{bundle.path}: {bundle.weight_bytes / 1e6:.1f} MB, from {source.weight_bytes / 1e6:.1f} MB")
    return bundle


def load_dev(task: Task, data: str | None) -> Split:
    """The dev rows that an export is verified on.

    Raises:
        ToolkitError: anyone's own task without --data, or rows that do not fit the task.
    """
    if data is None and task.name not in TASKS:
        raise ToolkitError(
            f"this model's task is {task.name!r}, whose rows only you have: the export is verified on them",
            fix="--data DIR with the folder it was trained from",
        )
    return load_split(task, "dev", data)


def _check_source(source: Bundle, out: Path) -> None:
    if source.kind not in ("teacher", "student") or source.weights.suffix == ".onnx":
        raise ToolkitError(
            f"{source.path} is a bundle of kind {source.kind}, which cannot be exported",
            expected="a fine-tuned PyTorch classifier, made by toolkit distill or finetune",
        )
    if out.resolve() == source.path.resolve():
        raise ToolkitError(f"--out {out} is the source itself, which would be lost", fix="another --out")
    check_target(out)


def _write_model(source: Bundle, precision: str, staging: Path, manifest: dict[str, Any]) -> TorchRuntime:
    """Write model.onnx and record what was quantized; the PyTorch model comes back, to hold the graph against."""
    from export.graph import check_graph, count_layers, export_fp32, load_classifier, save_graph

    say(f"exporting {source.path} to ONNX")
    model = load_classifier(source.path)
    if precision == "fp32":
        export_fp32(model, staging / MODEL)
        return TorchRuntime(model)
    import onnx

    from export.quantize import quantize_graph

    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        export_fp32(model, Path(scratch) / MODEL)
        quantized, record = quantize_graph(onnx.load(Path(scratch) / MODEL), count_layers(model))
    save_graph(quantized, staging / MODEL)
    check_graph(staging / MODEL)
    manifest["quantization"] = record.to_json()
    say(f"int8: {len(record.linear)} linear layers, {len(record.embedding)} embedding tables")
    return TorchRuntime(model)


def _verify(
    source: Bundle, task: Task, dev: Split, reference: TorchRuntime, path: Path, config: ExportConfig,
    manifest: dict[str, Any],
) -> None:  # fmt: skip
    from export.verify import enforce, gates_json, judge, measure

    say(f"comparing with PyTorch on {len(dev):,} dev rows")
    encoded = TextEncoder(source.path, source.max_length).encode(dev.texts, dev.pairs)
    measured = measure(task, dev, encoded, reference, OnnxRuntime(path), source.max_length)
    gates = judge(measured, config.precision, config.max_drop)
    rows = [
        (g.name, f"{g.value:.4g}", f"{'>=' if g.lower else '<='} {g.bound:g}", "yes" if g.passed else "NO")
        for g in gates
    ]
    if config.precision != "fp32":  # of no use as bounds, since the metric is one, but what a reader asks next
        agreement = [] if measured.agreement is None else [("label agreement, %", 100 * measured.agreement)]
        figures = [*agreement, ("largest logit difference", measured.max_difference)]
        rows += [(name, f"{value:.4g}", "", "") for name, value in figures]
    show_table(f"{config.precision} against PyTorch", ("gate", "figure", "bound", "held"), rows)
    enforce(gates, str(source.path))
    manifest["metrics"] = measured.metrics
    manifest["gates"] = gates_json(measured, gates)
