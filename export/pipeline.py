"""The command `toolkit export`: a PyTorch bundle to a verified ONNX bundle."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from export.baseline import dev_baseline
from export.calibration_data import SEED, calibration_text, is_quantization_aware, vocabulary_text
from export.confidence_rows import confidence_rows
from export.int8.calibration import choose_rows, collect_inputs
from export.int8.embeddings import LowBitSettings, embedding_gradients
from export.int8.quantize import linear_inputs, quantize_graph
from export.onnx_export import (
    check_graph,
    count_layers,
    describe_graph,
    export_fp32,
    load_classifier,
    save_graph,
    to_half,
)
from export.triton import write_triton
from export.tuning import fastest, run_trials
from export.tuning_candidates import TuningInputs, all_candidates, heads_and_hidden
from export.verify import GraphVerifier, Measurement, gates_json, require_gates
from toolkit.bundle.baseline import write_baseline
from toolkit.bundle.calibration import write_calibration
from toolkit.bundle.format import Bundle, new_manifest, open_bundle, write_bundle
from toolkit.bundle.manifest import Gates, Manifest, Quantization
from toolkit.bundle.provenance import check_output, origin
from toolkit.bundle.scores import ScoresBySplit, put_scores, teacher_metrics_on
from toolkit.config import ExportConfig
from toolkit.console import echo, show_table
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split, load_test
from toolkit.data.tokenization import TextEncoder
from toolkit.data.vocabulary import select_pieces, trim_files
from toolkit.errors import ToolkitError
from toolkit.inference.calibrate import CalibrationRows, calibrate
from toolkit.inference.runtimes import OnnxRuntime, TorchRuntime
from toolkit.measurement.environment import environment
from toolkit.models.trimming import trim_model, trim_positions
from toolkit.tasks import TASKS, Task

MODEL = "model.onnx"
# the files of AutoConfig and AutoTokenizer, for every tokenizer family
COPIED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip


@dataclass(frozen=True)
class ExportJob:
    """One export: its source, its options, and the folder and manifest that it writes."""

    source: Bundle
    config: ExportConfig
    staging: Path
    manifest: Manifest


def run_export(config: ExportConfig) -> Bundle:
    """Export a bundle to ONNX, verify on the dev rows that it gives the same answers, and write it.

    Raises:
        ToolkitError: the source cannot be exported, the data do not fit its task, or the target is in the way.
        GateError: the graph gives other answers than the PyTorch model; nothing is written.
    """
    config.check()
    source = open_bundle(config.source)
    _check_source(source)
    check_output(config, [config.source])
    dev, test = load_dev(source.task, config), load_test(source.task, config.data, DataOptions.of(config))
    rows = confidence_rows(source, config, {"test": test, "dev": dev})
    digests = {name: split.digest for name, split in (("dev", dev), ("test", test)) if split is not None}
    manifest = new_manifest(
        "onnx", source.manifest["task"], precision=config.precision, max_length=source.max_length,
        parent=source.digest, made_from={source.kind: origin(config.source)}, config=config.to_dict(),
        seed=source.manifest.get("seed"), data=digests,
    )  # fmt: skip
    with write_bundle(config.out, manifest) as staging:
        for name in COPIED:
            if name in source.manifest["files"]:
                shutil.copyfile(source.path / name, staging / name)
        _export(ExportJob(source, config, staging, manifest), dev, test, rows)
        if config.layout == "triton":
            write_triton(staging, source.task, manifest["precision"])
    bundle = open_bundle(config.out)
    echo(f"{bundle.path}: {bundle.weight_bytes / 1e6:.1f} MB, from {source.weight_bytes / 1e6:.1f} MB")
    return bundle


def load_dev(task: Task, config: ExportConfig) -> Split:
    """Load the dev rows that verify an export.

    Raises:
        ToolkitError: a user's own task without --data, or rows that do not fit the task.
    """
    if config.data is None and task.name not in TASKS:
        raise ToolkitError(
            f"this model's task is {task.name!r}, whose rows only you have: the export is verified on them",
            fix="--data with the folder or file it was trained from",
        )
    return load_split(task, "dev", config.data, DataOptions.of(config))


def _check_source(source: Bundle) -> None:
    if source.kind not in ("teacher", "student") or source.weights.suffix == ".onnx":
        raise ToolkitError(
            f"{source.path} is a bundle of kind {source.kind}, which cannot be exported",
            expected="a fine-tuned PyTorch classifier, made by toolkit distill or finetune",
        )


def _export(job: ExportJob, dev: Split, test: Split | None, rows: CalibrationRows | None) -> None:
    """Write the graph, verify it against PyTorch on dev, score it on test; add a baseline, and calibrate by `rows`."""
    echo(f"exporting {job.source.path} to ONNX")
    reference = TorchRuntime(load_classifier(job.source.path))
    model = _trim(job) if job.config.trim_vocabulary else reference.model
    verifier = GraphVerifier(
        job.source, dev, reference, job.staging,
        max_drop=job.config.max_drop, trimmed=bool(job.config.trim_vocabulary),
    )  # fmt: skip
    _write_model(job, verifier, model)
    runtime = OnnxRuntime(job.staging / MODEL)
    measured = _verify(job, verifier, runtime, test)
    if (baseline := dev_baseline(verifier, measured.logits)) is not None:
        write_baseline(job.staging, baseline)
    if rows is not None:
        fitted, reported = (verifier.logits(runtime, split) for split in (rows.fitted, rows.reported))
        write_calibration(job.staging, calibrate(job.source.task, rows, fitted, reported))


def _trim(job: ExportJob) -> Any:
    """Trim the vocabulary of the tokenizer in the new folder, and return a second model with the same pieces."""
    trimmed = select_pieces(job.source.path, *vocabulary_text(job.source.task, job.config), most=job.config.max_pieces)
    model = load_classifier(job.source.path)
    trim_model(trimmed, model)
    positions = trim_positions(model, job.source.max_length)
    trim_files(trimmed, job.staging, positions)
    job.manifest["vocabulary"] = trimmed.to_dict(positions)
    echo(f"vocabulary: {len(trimmed.ids):,} of {trimmed.old_size:,} word pieces")
    return model


def _write_model(job: ExportJob, verifier: GraphVerifier, model: Any) -> None:
    """Write model.onnx and describe it in the manifest."""
    target = job.staging / MODEL
    if job.config.precision == "fp32":
        export_fp32(model, target)
    else:
        with tempfile.TemporaryDirectory(dir=job.staging) as scratch:
            fp32 = Path(scratch) / MODEL
            export_fp32(model, fp32)
            if job.config.precision == "fp16":
                save_graph(to_half(fp32), target)
            else:
                _write_int8(job, verifier, model, fp32)
        check_graph(target)
    job.manifest["graph"] = describe_graph(target)


def _write_int8(job: ExportJob, verifier: GraphVerifier, model: Any, fp32: Path) -> None:
    """Write the int8 graph, calibrated where there is text; with --tune, the fastest candidate that passes."""
    graph, calibration, words, encoded, rows = onnx.load(fp32), None, None, None, np.empty(0, dtype=np.int64)
    if (split := calibration_text(job.source, job.config)) is not None:
        job.manifest["data"] = {**job.manifest["data"], "calibration": split.digest}
        encoded = TextEncoder(job.staging, job.source.max_length).encode(split.texts, split.pairs)
        rows = choose_rows(encoded.lengths, SEED)
        if not is_quantization_aware(job.source):
            echo(f"setting int8 scales by {len(rows):,} texts of {split.source}")
            calibration = collect_inputs(fp32, linear_inputs(graph), encoded, rows)
        if job.config.embedding_bits < 8:
            gradients = embedding_gradients(model, encoded, rows)
            words = LowBitSettings.of(gradients, np.concatenate(encoded.ids), job.config.embedding_bits)
    layer_count = count_layers(model)
    if job.config.tune:
        shape = heads_and_hidden(model.config)
        _tune(job, verifier, TuningInputs(fp32, layer_count, calibration, words, encoded, rows, *shape))
        return
    quantized, record = quantize_graph(graph, layer_count, calibration, words)
    job.manifest["quantization"] = cast(Quantization, record.to_dict())
    echo(f"int8: {len(record.linear)} linear layers, {len(record.embedding)} embedding tables")
    save_graph(quantized, job.staging / MODEL)


def _tune(job: ExportJob, verifier: GraphVerifier, inputs: TuningInputs) -> None:
    """Run a trial of every candidate, record all, and keep the file of the fastest that passes."""
    candidates = all_candidates(inputs)
    echo(f"{len(candidates)} candidates: building, judging and timing each on this CPU")
    trials = run_trials(candidates, inputs.fp32.parent, verifier.verify, verifier.encoded)
    job.manifest["tuning"] = [trial.to_dict() for trial in trials]
    rows = [
        (
            trial.candidate.name, f"{trial.latency_ms:.3f}" if trial.samples_ms else "-",
            f"{trial.measured.drop:.2f}" if trial.measured else "-",
            "passed" if trial.passed else trial.problem or "; ".join(gate.name for gate in trial.missed),
        )
        for trial in trials
    ]  # fmt: skip
    show_table("one text a request, one thread", ("candidate", "ms", "points lost", "gates"), rows)
    best = fastest(trials, str(job.source.path))
    assert best.path is not None
    for file in best.path.parent.glob(f"{MODEL}*"):
        shutil.move(file, job.staging / file.name)
    record: Quantization = {
        "candidate": best.candidate.name, "latency_ms": best.latency_ms, "cpu": environment()["cpu"]
    }  # fmt: skip
    job.manifest.update({"precision": best.candidate.precision, "quantization": record})
    echo(f"fastest that passes: {best.candidate.name}, {best.latency_ms:.3f} ms a text")


def _verify(job: ExportJob, verifier: GraphVerifier, runtime: OnnxRuntime, test: Split | None) -> Measurement:
    """Check the written graph against PyTorch; record its gates, and its scores, in the manifest."""
    precision = job.manifest["precision"]
    echo(f"comparing with PyTorch on {len(verifier.dev):,} dev rows")
    measured, gates = verifier.verify(runtime, precision)
    rows = [
        (g.name, f"{g.value:.4g}", f"{'>=' if g.lower else '<='} {g.bound:.4g}", "yes" if g.passed else "NO")
        for g in gates
    ]
    show_table(f"{precision} against PyTorch", ("gate", "figure", "bound", "held"), rows)
    require_gates(gates, str(job.source.path))
    scores: ScoresBySplit = {"dev": {"metrics": measured.metrics, "by_class": measured.by_class}}
    if test is not None:
        scores["test"] = verifier.score(runtime, test)
    for name, of_split in scores.items():
        if teacher := teacher_metrics_on(job.source.manifest, name):
            of_split["teacher_metrics"] = teacher  # for reports of the fraction that is kept
    put_scores(job.manifest, scores)
    job.manifest["gates"] = cast(Gates, gates_json(measured, gates))
    return measured
