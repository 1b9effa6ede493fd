"""`toolkit export`: a PyTorch bundle to a verified ONNX bundle."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.calibration_data import SEED, calibration_text, is_quantization_aware, vocabulary_text
from export.triton import write_triton
from toolkit.bundle.format import Bundle, check_output_path, open_bundle, write_bundle
from toolkit.bundle.provenance import origin
from toolkit.config import ExportConfig
from toolkit.console import echo, show_table
from toolkit.data.datasets import Split, load_split
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime, batched_logits
from toolkit.tasks import TASKS, Task

if TYPE_CHECKING:
    from export.tuning_candidates import TuningInputs
    from export.verify import Gate, Measurement

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
    require_packages("torch", "transformers", "optimum", "onnx", "onnxruntime", purpose="toolkit export")
    source = open_bundle(config.source)
    _check_source(source, Path(config.out))
    task = source.task
    dev = load_dev(task, config.data)
    manifest: dict[str, Any] = {
        "kind": "onnx", "task": source.manifest["task"], "precision": config.precision,
        "max_length": source.max_length, "parent": source.digest, "config": config.to_dict(),
        "made_from": {source.kind: origin(config.source)},
        "seed": source.manifest.get("seed"), "data": {"dev": dev.digest},
    }  # fmt: skip
    if "teacher_metrics" in source.manifest:
        manifest["teacher_metrics"] = source.manifest["teacher_metrics"]  # so that a report can tell what was kept
    with write_bundle(config.out, manifest) as staging:
        for name in COPIED:
            if name in source.manifest["files"]:
                shutil.copyfile(source.path / name, staging / name)
        _export(ExportJob(source, config, staging, manifest), dev)
        if config.layout == "triton":
            write_triton(staging, task, manifest["precision"])
    bundle = open_bundle(config.out)
    echo(f"{bundle.path}: {bundle.weight_bytes / 1e6:.1f} MB, from {source.weight_bytes / 1e6:.1f} MB")
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
    check_output_path(out)


def _export(job: ExportJob, dev: Split) -> None:
    """Write the graph, hold it against PyTorch, and record both."""
    from export.onnx_export import load_classifier

    echo(f"exporting {job.source.path} to ONNX")
    reference = TorchRuntime(load_classifier(job.source.path))
    model = _trim(job, reference.model)
    gates_for = GraphVerifier(job, dev, reference)
    _write_model(job, gates_for, model)
    _verify(job, gates_for)


@dataclass(frozen=True)
class ExportJob:
    """One export: where from, by which options, into which folder and manifest."""

    source: Bundle
    config: ExportConfig
    staging: Path
    manifest: dict[str, Any]


def _write_model(job: ExportJob, verifier: GraphVerifier, model: Any) -> None:
    """Write model.onnx and record how it was made."""
    from export.onnx_export import check_graph, export_fp32, save_graph, to_half

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
                _quantize(job, verifier, model, fp32)
        check_graph(target)
    job.manifest["graph"] = describe_graph(target)


def describe_graph(path: Path) -> dict[str, Any]:
    """What a runtime has to know to run a graph: opsets and IR version."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    opsets = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    return {"ir_version": model.ir_version, "opsets": opsets, "nodes": len(model.graph.node)}


def _trim(job: ExportJob, model: Any) -> Any:
    """The model with fewer word pieces, and its tokenizer in the new folder likewise."""
    from export.onnx_export import load_classifier
    from export.trim_vocabulary import select_pieces, trim_files, trim_model, trim_positions

    if not job.config.trim_vocabulary:
        return model
    trimmed = select_pieces(job.source.path, *vocabulary_text(job.source, job.config), most=job.config.max_pieces)
    model = load_classifier(job.source.path)  # a second one: the first is what the graph is held against
    trim_model(trimmed, model)
    positions = trim_positions(model, job.source.max_length)
    trim_files(trimmed, job.staging, positions)
    job.manifest["vocabulary"] = {"kept": len(trimmed.kept), "of": trimmed.size, "positions": positions}
    echo(f"vocabulary: {len(trimmed.kept):,} of {trimmed.size:,} word pieces")
    return model


def _quantize(job: ExportJob, verifier: GraphVerifier, model: Any, fp32: Path) -> None:
    """Write the int8 graph, calibrated where there is text to calibrate by, or with --tune the fastest that passes."""
    import onnx

    from export.int8.calibration import choose_rows, collect_inputs
    from export.int8.embeddings import LowBitSettings, embedding_gradients
    from export.int8.quantize import linear_inputs, quantize_graph
    from export.onnx_export import count_layers, save_graph
    from export.tuning_candidates import TuningInputs, shape_of

    graph, calibration, words, encoded, rows = onnx.load(fp32), None, None, None, np.empty(0, dtype=np.int64)
    if (split := calibration_text(job.source, job.config)) is not None:
        job.manifest["data"]["calibration"] = split.digest
        encoded = TextEncoder(job.staging, job.source.max_length).encode(split.texts, split.pairs)
        rows = choose_rows(encoded.lengths, SEED)
        if not is_quantization_aware(job.source):
            echo(f"calibrating on {len(rows):,} texts of {split.source}")
            calibration = collect_inputs(fp32, linear_inputs(graph), encoded, rows)
        if job.config.embedding_bits < 8:
            gradients = embedding_gradients(model, encoded, rows)
            words = LowBitSettings.of(gradients, np.concatenate(encoded.ids), job.config.embedding_bits)
    if job.config.tune:
        made = TuningInputs(fp32, count_layers(model), calibration, words, encoded, rows, *shape_of(model.config))
        return _tune(job, verifier, made)
    quantized, record = quantize_graph(graph, count_layers(model), calibration, words)
    job.manifest["quantization"] = record.to_dict()
    echo(f"int8: {len(record.linear)} linear layers, {len(record.embedding)} embedding tables")
    save_graph(quantized, job.staging / MODEL)
    return None


def _tune(job: ExportJob, verifier: GraphVerifier, made: TuningInputs) -> None:
    from export.tuning import fastest, try_all
    from export.tuning_candidates import candidates

    found = candidates(made)
    echo(f"{len(found)} candidates: building, judging and timing each on this CPU")
    trials = try_all(found, made.fp32.parent, verifier.of, verifier.encoded)
    job.manifest["tuning"] = [trial.to_dict() for trial in trials]
    rows = [
        (
            trial.candidate.name, f"{trial.latency_ms:.3f}" if trial.samples_ms else "-",
            f"{trial.measured.drop:.2f}" if trial.measured else "-",
            "passed" if trial.passed else trial.fault or "; ".join(g.name for g in trial.gates if not g.passed),
        )
        for trial in trials
    ]  # fmt: skip
    show_table("one text a request, one thread", ("candidate", "ms", "points lost", "gates"), rows)
    best = fastest(trials, str(job.source.path))
    assert best.path is not None
    for file in best.path.parent.glob(f"{MODEL}*"):
        shutil.move(file, job.staging / file.name)
    job.manifest.update(precision=best.candidate.precision, quantization={"candidate": best.candidate.name})
    echo(f"fastest that passes: {best.candidate.name}, {best.latency_ms:.3f} ms a text")


class GraphVerifier:
    """Holds graphs against the PyTorch model on the dev rows.

    Args:
        source: the PyTorch bundle.
        dev: its rows.
        reference: its model.
        directory: holds the tokenizer that the graphs go with.
    """

    def __init__(self, job: ExportJob, dev: Split, reference: TorchRuntime) -> None:
        from export.verify import BATCH_SIZE

        self.job, self.dev = job, dev
        own, self.encoded = (
            TextEncoder(folder, job.source.max_length).encode(dev.texts, dev.pairs)
            for folder in (job.source.path, job.staging)
        )
        self.wanted = batched_logits(reference, own, BATCH_SIZE)

    def of(self, runtime: Runtime, precision: str) -> tuple[Measurement, list[Gate]]:
        """Figures and gates of a graph."""
        from export.verify import gates_for, measure

        source, config = self.job.source, self.job.config
        measured = measure(source.task, self.dev, self.wanted, self.encoded, runtime, source.max_length)
        return measured, gates_for(measured, precision, config.max_drop, trimmed=bool(config.trim_vocabulary))


def _verify(job: ExportJob, verifier: GraphVerifier) -> None:
    from export.verify import gates_json, require_gates

    precision = job.manifest["precision"]
    echo(f"comparing with PyTorch on {len(verifier.dev):,} dev rows")
    measured, gates = verifier.of(OnnxRuntime(job.staging / MODEL), precision)
    rows = [
        (g.name, f"{g.value:.4g}", f"{'>=' if g.lower else '<='} {g.bound:.4g}", "yes" if g.passed else "NO")
        for g in gates
    ]
    show_table(f"{precision} against PyTorch", ("gate", "figure", "bound", "held"), rows)
    require_gates(gates, str(job.source.path))
    job.manifest["metrics"] = measured.metrics
    job.manifest["gates"] = gates_json(measured, gates)
