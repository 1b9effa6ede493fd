"""`toolkit export`: a PyTorch bundle to a verified ONNX bundle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.triton import write_triton
from toolkit.bundle import Bundle, check_target, open_bundle, write_bundle
from toolkit.config import ExportConfig
from toolkit.console import say, show_table
from toolkit.data import Split, load_split, load_texts
from toolkit.errors import ToolkitError, require
from toolkit.predictor import OnnxRuntime, TorchRuntime, batched_logits
from toolkit.provenance import origin
from toolkit.tables import SUFFIXES
from toolkit.tasks import TASKS, Task
from toolkit.text import TextEncoder

MODEL = "model.onnx"
CALIBRATION_ROWS = 2048  # at most; far fewer hold the tokens that calibration takes
CALIBRATION_SEED = 0
if TYPE_CHECKING:
    from export.vocabulary import Trimmed

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
        reference = _write_model(source, config, staging, manifest)
        _verify(source, dev, reference, staging, config, manifest)
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


def _write_model(source: Bundle, config: ExportConfig, staging: Path, manifest: dict[str, Any]) -> TorchRuntime:
    """Write model.onnx and record what was done; the PyTorch model comes back, to hold the graph against."""
    from export.graph import check_graph, export_fp32, load_classifier, save_graph
    from export.vocabulary import trim_files, trim_model

    say(f"exporting {source.path} to ONNX")
    reference = TorchRuntime(load_classifier(source.path))
    model = reference.model
    if config.trim_vocabulary:
        trimmed = _trim(source, config)
        model = load_classifier(source.path)
        trim_model(trimmed, model)
        trim_files(trimmed, staging)
        manifest["vocabulary"] = {"kept": len(trimmed.kept), "of": trimmed.size}
        say(f"vocabulary: {len(trimmed.kept):,} of {trimmed.size:,} word pieces")
    if config.precision == "fp32":
        export_fp32(model, staging / MODEL)
        return reference
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        fp32 = Path(scratch) / MODEL
        export_fp32(model, fp32)
        save_graph(_quantize(source, config, model, fp32, staging, manifest), staging / MODEL)
    check_graph(staging / MODEL)
    return reference


def _quantize(
    source: Bundle, config: ExportConfig, model: Any, fp32: Path, staging: Path, manifest: dict[str, Any]
) -> Any:
    """The int8 graph, calibrated where there is text to calibrate by."""
    import onnx

    from export.calibrate import choose_rows, collect_inputs
    from export.graph import count_layers
    from export.quantize import linear_inputs, quantize_graph
    from export.sensitivity import embedding_gradients
    from export.tables import FourBits

    graph, calibration, words = onnx.load(fp32), None, None
    if (split := _calibration_text(source, config)) is not None:
        manifest["data"]["calibration"] = split.digest
        encoded = TextEncoder(staging, source.max_length).encode(split.texts, split.pairs)
        rows = choose_rows(encoded.lengths, CALIBRATION_SEED)
        if not _learnt(source):
            say(f"calibrating on {len(rows):,} texts of {split.source}")
            calibration = collect_inputs(fp32, linear_inputs(graph), encoded, rows)
        if config.embedding_bits == 4:
            words = FourBits.of(embedding_gradients(model, encoded, rows), np.concatenate(encoded.ids))
    quantized, record = quantize_graph(graph, count_layers(model), calibration, words)
    manifest["quantization"] = record.to_json()
    say(f"int8: {len(record.linear)} linear layers, {len(record.embedding)} embedding tables")
    return quantized


def _calibration_text(source: Bundle, config: ExportConfig) -> Split | None:
    """Text to set scales by; None where there is none, or where training has settled all of them."""
    if _learnt(source) and config.embedding_bits == 8:
        say("trained for int8: rounded as in training")
        return None
    if config.calibration is not None:
        found = load_texts(source.task, config.calibration)
    elif (train := _train_rows(source, config.data)) is not None:
        found = train
    elif config.embedding_bits == 4:
        raise ToolkitError(
            f"{config.data} has no train file, and 4 bits are rounded by the task's text", fix="--calibration FILE"
        )
    else:
        say(f"{config.data} has no train file to calibrate on: one scale a token, and each weight to its nearest")
        return None
    return found.head(CALIBRATION_ROWS, CALIBRATION_SEED)


def _learnt(source: Bundle) -> bool:
    """Whether a student met int8 rounding while it learnt: one scale a token, each weight to its nearest."""
    return bool(source.manifest.get("config", {}).get("quantization_aware"))


def _train_rows(source: Bundle, data: str | None) -> Split | None:
    """The task's train rows; None where the folder given holds none."""
    if data is not None and not any((Path(data) / f"train{suffix}").is_file() for suffix in SUFFIXES):
        return None
    return load_split(source.task, "train", data)


def _trim(source: Bundle, config: ExportConfig) -> Trimmed:
    """Word pieces that the files given and the task's train rows need."""
    from export.vocabulary import choose_pieces

    splits = [load_texts(source.task, path) for path in config.trim_vocabulary]
    if (train := _train_rows(source, config.data)) is not None:
        splits.append(train)
    texts = [text for split in splits for text in (*split.texts, *(split.pairs or []))]
    return choose_pieces(source.path, texts)


def _verify(
    source: Bundle, dev: Split, reference: TorchRuntime, staging: Path, config: ExportConfig, manifest: dict[str, Any]
) -> None:
    from export.verify import BATCH_SIZE, enforce, gates_json, judge, measure

    say(f"comparing with PyTorch on {len(dev):,} dev rows")
    own, encoded = (
        TextEncoder(directory, source.max_length).encode(dev.texts, dev.pairs) for directory in (source.path, staging)
    )
    wanted = batched_logits(reference, own, BATCH_SIZE)
    measured = measure(source.task, dev, wanted, encoded, OnnxRuntime(staging / MODEL), source.max_length)
    gates = judge(measured, config.precision, config.max_drop, trimmed=bool(config.trim_vocabulary))
    rows = [
        (g.name, f"{g.value:.4g}", f"{'>=' if g.lower else '<='} {g.bound:.4g}", "yes" if g.passed else "NO")
        for g in gates
    ]
    show_table(f"{config.precision} against PyTorch", ("gate", "figure", "bound", "held"), rows)
    enforce(gates, str(source.path))
    manifest["metrics"] = measured.metrics
    manifest["gates"] = gates_json(measured, gates)
