"""`toolkit bench`: how much smaller and faster a model is than BERT-base, with the evidence.

Headline: the gain of distillation. Baseline and student are built from their `config.json` by one exporter, as fp32
ONNX, and timed in turn in one runtime with the same threads. Then, apart: the gain of ONNX over PyTorch, of int8 over
fp32, of batching by length over padding, and the total of the bundle as given against the baseline in PyTorch, as a
user would start. Then the scenarios of MLPerf over the task's own texts.
Weights are random where only speed and size are measured; accuracy comes from the bundles' manifests alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from toolkit.benchmarking.comparisons import BenchContext, measure_comparisons, peer_comparisons
from toolkit.benchmarking.models import BenchModel, bert_base, check_lengths, from_bundle, from_directory
from toolkit.benchmarking.random_models import Exporter, torch_threads
from toolkit.benchmarking.replicates import replicate
from toolkit.benchmarking.report.claims import gain_claims, missed_claims, size_claims, speed_claims
from toolkit.benchmarking.report.read import SCHEMA_VERSION, read_report
from toolkit.benchmarking.report.regressions import regressions
from toolkit.benchmarking.report.tables import terminal_tables, warnings
from toolkit.benchmarking.report.write import REPORT, write_report
from toolkit.benchmarking.results import Claim, Comparison, ModelFacts, Report, Resolved, ServerLoad
from toolkit.benchmarking.runners import RunnerCache, resolve_device
from toolkit.benchmarking.scenarios import latency_by_length, text_scenarios, throughput_by_batch
from toolkit.benchmarking.server.http_client import post
from toolkit.benchmarking.server.load_generator import measure_load
from toolkit.benchmarking.server.process import serving
from toolkit.bundle.format import check_output_path, open_bundle
from toolkit.config import BenchConfig
from toolkit.config.bench import BERT_BASE
from toolkit.console import echo, show_table
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split
from toolkit.errors import GateError, ToolkitError, require_packages
from toolkit.files import file_record
from toolkit.measurement.environment import BackgroundLoad, environment, physical_cores


@dataclass(frozen=True)
class BenchReport:
    """A report, and the folder that holds its report.json, report.md and report.html."""

    content: Report
    out: Path


def require_claims(report: BenchReport) -> None:
    """Check the claims of a report.

    Raises:
        GateError: it names every claim that is missed or not shown.
    """
    if missed := missed_claims(report.content.claims):
        raise GateError(
            f"{len(missed)} of {len(report.content.claims)} claims are not met\n" + "\n".join(missed),
            expected="every claim PASS: its whole interval at or above the claim",
            fix=f"read {report.out / 'report.html'}; INCONCLUSIVE wants a quieter machine or more --max-pairs",
        )


def compare(old: Path, new: Path) -> BenchReport:
    """Show the changes from one report to another, and return the new one.

    Raises:
        GateError: something got slower beyond noise.
        ToolkitError: not two reports of this version.
    """
    report = read_report(new)
    result = regressions(read_report(old), report)
    show_table(result.table.title, result.table.columns, result.table.rows)
    for note in result.notes:
        echo(note)
    if result.slower:
        raise GateError(
            f"{len(result.slower)} of {result.compared} comparisons got slower beyond noise\n"
            + "\n".join(f"  - {line}" for line in result.slower),
            expected="every ratio to its own yardstick as high as before, within noise",
        )
    echo(f"nothing got slower beyond noise in {result.compared} comparisons")
    return BenchReport(report, new if new.is_dir() else new.parent)


def measure(config: BenchConfig, export: Exporter) -> BenchReport:
    """Measure and write the reports, whatever the verdicts are.

    Args:
        config: the options.
        export: writes a PyTorch classifier as the fp32 ONNX graph that ships.

    Raises:
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
    """
    config.check()
    _require(config)
    device = resolve_device(config.device)
    resolved = config.on(device)
    first = Path(config.bundles[0]).resolve()
    out = Path(config.out) if config.out else first.with_name(f"{first.name}-bench")
    check_output_path(out, REPORT, "bench report")
    if (out / REPORT).is_file():
        echo(f"{out} holds an earlier report, which this one replaces")
    bundles = [open_bundle(path) for path in config.bundles]
    threads = config.threads or physical_cores()
    echo(f"building {config.baseline} and the models under test anew as fp32 ONNX")
    with tempfile.TemporaryDirectory(prefix="toolkit-bench-") as folder, torch_threads(threads):
        scratch = Path(folder)
        models = [from_bundle(bundle, scratch, export) for bundle in bundles]
        if config.baseline == BERT_BASE:
            baseline = bert_base(export)
        else:
            baseline = from_directory(Path(config.baseline), scratch, export)
        check_lengths(resolved.length, [baseline, *models])
        context = BenchContext(resolved, RunnerCache(threads, device), baseline, models, _splits(resolved, models))
        report = _measure(config, context, scratch)
    write_report(report, out)
    for table in terminal_tables(report):
        show_table(table.title, table.columns, table.rows)
    for warning in warnings(report):
        echo(warning)
    echo(f"reports: {out / 'report.html'}, report.md, report.json")
    return BenchReport(report, out)


def _require(config: BenchConfig) -> None:
    packages = ["torch", "transformers", "onnx", "onnxruntime", "jinja2", "matplotlib"]
    if "server" in config.chosen_scenarios:
        packages += ["fastapi", "uvicorn"]
    if config.peers:
        packages += ["ctranslate2", "nncf", "openvino"]
    require_packages(*packages, purpose="toolkit bench")


def _measure(options: BenchConfig, context: BenchContext, scratch: Path) -> Report:
    """Measure all that `context` asks for; the report holds `options` as they were given."""
    config, background = context.config, BackgroundLoad()
    models = [_facts(model, config.length, context.baseline) for model in (context.baseline, *context.models)]
    peers = peer_comparisons(context, scratch) if config.peers else []
    comparisons = measure_comparisons(context, peers)
    if config.replicates:
        comparisons = replicate(context, comparisons)
    return Report(
        schema_version=SCHEMA_VERSION,
        models=models,
        comparisons=comparisons,
        claims=_claims(config, models, comparisons),
        latency_by_length=latency_by_length(context),
        throughput_by_batch=throughput_by_batch(context),
        scenarios=[*text_scenarios(context), *_server_scenarios(context)],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        options=options.to_dict(),
        resolved=Resolved(length=config.length, device=config.device),
        threads=context.runners.threads,
        environment={**environment(config.device), "others_share": background.fraction()},
    )


def _claims(config: BenchConfig, models: Sequence[ModelFacts], comparisons: Sequence[Comparison]) -> list[Claim]:
    """Judge the gains over a person's own baseline, and the claims of the options, which are the paper's by default."""
    gains = [] if config.baseline == BERT_BASE else gain_claims(models, comparisons)
    sizes = [] if config.size_claim is None else size_claims(models, config.size_claim)
    return [*gains, *sizes, *speed_claims(comparisons)]


def _server_scenarios(context: BenchContext) -> list[ServerLoad]:
    """Run the server scenario of each ONNX bundle by the real service, if --scenarios asks for it."""
    config, scenarios = context.config, list[ServerLoad]()
    for model in context.models if "server" in config.chosen_scenarios else []:
        bundle, split = model.bundle, context.splits.get(model.name)
        if bundle is None or bundle.weights.suffix != ".onnx" or split is None:
            continue
        if split.pairs is None:
            requests = [post({"inputs": {"text": text}}) for text in split.texts]
        else:
            both = zip(split.texts, split.pairs, strict=True)
            requests = [post({"inputs": {"text": text, "text_pair": pair}}) for text, pair in both]
        with serving(bundle.path, "--log-format", "none") as server:
            first, highest, trials = measure_load(server, requests, config.rate, config.latency_bound_ms, config.seed)
        scenarios.append(ServerLoad(
            model=f"{model.name}, {bundle.precision} service", score=model.score, length=None, source=split.source,
            queries=len(split), bound_ms=config.latency_bound_ms, highest_rate=highest,
            trials=[trial.result() for trial in trials], **vars(first.result()),
        ))  # fmt: skip
    return scenarios


def _facts(model: BenchModel, length: int, baseline: BenchModel) -> ModelFacts:
    """Collect size, FLOPs, accuracy and files of a model."""
    bundle, shape = model.bundle, model.shape
    projection = shape.projection_parameters(baseline.hidden) if shape and model is not baseline else None
    return ModelFacts(
        name=model.name,
        architecture=model.architecture,
        dimensions=model.dimensions,
        note=model.note,
        baseline=model is baseline,
        precision=bundle.precision if bundle else "fp32",
        parameters=model.parameters,
        parameters_with_projection=None if projection is None else model.parameters + projection,
        flops=shape.flops(length) if shape else None,
        flops_length=length,
        fp32_onnx_bytes=model.onnx_bytes,
        fp32_onnx_sha256=file_record(model.onnx)["sha256"],
        size_bytes=bundle.weight_bytes if bundle else model.onnx_bytes,
        part_bytes=model.parts,
        metric=bundle.task.metric if bundle else None,
        split=model.split,
        score=model.score,
        fp32_score=model.fp32_score,
        teacher_score=model.teacher_score,
        digest=bundle.digest if bundle else None,
        files=bundle.manifest["files"] if bundle else {},
    )


def _splits(config: BenchConfig, models: Sequence[BenchModel]) -> dict[str, Split]:
    """Read the task's dev texts by model: from --data or the embedded default; never from the network."""
    splits = {}
    for model in models:
        bundle = model.bundle
        if bundle is None or (config.data is None and bundle.task.name != "rotten-tomatoes"):
            continue
        try:
            splits[model.name] = load_split(
                bundle.task, "dev", config.data, DataOptions.of(config),
                max_rows=config.queries, seed=config.seed,
            )  # fmt: skip
        except ToolkitError:
            if config.data is not None:
                raise  # without --data they were the embedded data, which are an extra
    if not splits and config.chosen_scenarios:
        echo("no texts of the task at hand, so no scenarios: give --data FOLDER")
    return splits
