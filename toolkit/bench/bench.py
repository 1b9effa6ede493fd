"""`toolkit bench`: how much smaller and faster a model is than BERT-base, with the evidence.

Headline: what distillation gains. Baseline and student are built from their `config.json` by one exporter, as fp32
ONNX, and timed in turn in one runtime with the same threads. Then, apart: what ONNX gains over PyTorch, int8 over
fp32, batching by length over padding, and the total of the bundle as given against the baseline in PyTorch, as a user
would start. Then the scenarios of MLPerf over the task's own texts.
Weights are random where only speed and size are told of; accuracy comes from the bundles' manifests alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.bench.comparisons import BenchContext, comparisons, peer_matches
from toolkit.bench.models import BenchModel, bert_base, check_lengths, directory, from_bundle
from toolkit.bench.random_models import torch_threads
from toolkit.bench.replicates import replicate
from toolkit.bench.report.claims import missed_claims, size_claims, speed_claims
from toolkit.bench.report.regressions import read_report, regressions
from toolkit.bench.report.tables import SCHEMA_VERSION, terminal_tables, warnings
from toolkit.bench.report.write import REPORT, write_report
from toolkit.bench.runners import RunnerCache, resolve_device
from toolkit.bench.scenarios import latency_by_length, text_scenarios, throughput_by_batch
from toolkit.bench.server.load_generator import server_scenario
from toolkit.bench.server.process import serving
from toolkit.bundle.format import check_output_path, open_bundle
from toolkit.config import BenchConfig
from toolkit.console import echo, show_table
from toolkit.data.datasets import Split, load_split
from toolkit.errors import GateError, ToolkitError, require_packages
from toolkit.files import file_record
from toolkit.measurement.environment import BackgroundLoad, environment, physical_cores


@dataclass(frozen=True)
class BenchReport:
    """What was measured. `content` is `report.json`; `out` holds report.json, report.md and report.html."""

    content: dict[str, Any]
    out: Path

    @property
    def passed(self) -> bool:
        """Whether every claim's verdict is PASS; INCONCLUSIVE is not."""
        return not missed_claims(self.content["claims"])


def run_bench(config: BenchConfig) -> None:
    """Measure, write the reports, then hold the claims against what was measured; or compare two reports.

    Raises:
        GateError: a claim is missed or not shown (the reports are written before), or something got slower.
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
    """
    config.check()
    if config.compare:
        compare(*map(Path, config.bundles))
    else:
        require_claims(measure(config))


def require_claims(report: BenchReport) -> None:
    """Raise a GateError that names every claim whose verdict is not PASS."""
    if missed := missed_claims(report.content["claims"]):
        raise GateError(
            f"{len(missed)} of {len(report.content['claims'])} claims are not met\n" + "\n".join(missed),
            expected="every claim PASS: its whole interval at or above the claim",
            fix=f"read {report.out / 'report.html'}; INCONCLUSIVE wants a quieter machine or more --max-pairs",
        )


def compare(old: Path, new: Path) -> None:
    """Show what changed from one report to another.

    Raises:
        GateError: something got slower beyond noise.
        ToolkitError: not two reports of this version.
    """
    found = regressions(read_report(old), read_report(new))
    show_table(found.table.title, found.table.columns, found.table.rows)
    for note in found.notes:
        echo(note)
    if found.slower:
        raise GateError(
            f"{len(found.slower)} of {found.compared} comparisons got slower beyond noise\n"
            + "\n".join(f"  - {line}" for line in found.slower),
            expected="every ratio to its own yardstick as high as before, within noise",
        )
    echo(f"nothing got slower beyond noise in {found.compared} comparisons")


def measure(config: BenchConfig) -> BenchReport:
    """Measure and write the reports, whatever the claims come to.

    Raises:
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
    """
    config.check()
    serves = "server" in config.chosen_scenarios
    needed = [
        "torch",
        "transformers",
        "onnx",
        "onnxruntime",
        "jinja2",
        "matplotlib",
        *(["fastapi", "uvicorn"] if serves else []),
    ]
    require_packages(*needed, *(["ctranslate2", "nncf", "openvino"] if config.peers else []), purpose="toolkit bench")
    device = resolve_device(config.device)
    resolved = config.on(device)
    first = Path(config.bundles[0]).resolve()
    out = Path(config.out) if config.out else first.with_name(f"{first.name}-bench")
    check_output_path(out, REPORT, "bench report")
    bundles = [open_bundle(path) for path in config.bundles]
    threads = config.threads or physical_cores()
    echo(f"building {config.baseline} and the models under test anew as fp32 ONNX")
    with tempfile.TemporaryDirectory(prefix="toolkit-bench-") as scratch, torch_threads(threads):
        subjects = [from_bundle(bundle, Path(scratch)) for bundle in bundles]
        baseline = bert_base() if config.baseline == "bert-base" else directory(Path(config.baseline), Path(scratch))
        check_lengths(resolved.length, [baseline, *subjects])
        setting = BenchContext(resolved, RunnerCache(threads, device), baseline, subjects, _splits(resolved, subjects))
        others = BackgroundLoad()
        content = _measured(setting, Path(scratch)) | {
            "schema_version": SCHEMA_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": config.to_dict(),
            "resolved": {"length": resolved.length, "device": device},
            "threads": threads,
            "environment": {**environment(device), "others_share": others.fraction()},
        }
    write_report(content, out)
    for table in terminal_tables(content):
        show_table(table.title, table.columns, table.rows)
    for warning in warnings(content):
        echo(warning)
    echo(f"reports: {out / 'report.html'}, report.md, report.json")
    return BenchReport(content, out)


def _measured(setting: BenchContext, scratch: Path) -> dict[str, Any]:
    config = setting.config
    models = [_model(subject, config.length, setting.baseline) for subject in (setting.baseline, *setting.subjects)]
    peers = peer_matches(setting, scratch) if config.peers else []
    compared = comparisons(setting, peers)
    if config.replicates:
        replicate(setting, compared)
    return {
        "models": models,
        "comparisons": compared,
        "claims": [*size_claims(models, config.size_claim), *speed_claims(compared)],
        "latency_by_length": latency_by_length(setting),
        "throughput_by_batch": throughput_by_batch(setting),
        "scenarios": text_scenarios(setting) + (_served(setting) if "server" in config.chosen_scenarios else []),
    }


def _served(setting: BenchContext) -> list[dict[str, Any]]:
    """The server scenario of each ONNX bundle, by the real service."""
    config, found = setting.config, []
    for subject in setting.subjects:
        bundle, split = subject.bundle, setting.splits.get(subject.name)
        if bundle is None or bundle.weights.suffix != ".onnx" or split is None:
            continue
        asked: list[dict[str, Any]] = [{"inputs": {"text": text}} for text in split.texts]
        for request, pair in zip(asked, split.pairs or (), strict=False):
            request["inputs"]["text_pair"] = pair
        with serving(bundle.path, "--log-format", "none") as server:
            result = server_scenario(server, asked, config.rate, config.latency_bound_ms, config.seed)
        about = {"scenario": "server", "model": f"{subject.name}, {bundle.precision} service", "score": subject.score}
        found.append({**about, "length": None, "source": split.source, "queries": len(split), **result})
    return found


def _model(subject: BenchModel, length: int, baseline: BenchModel) -> dict[str, Any]:
    """Size, FLOPs, accuracy and files of one model."""
    bundle, shape = subject.bundle, subject.shape
    given = bundle.weight_bytes if bundle else subject.onnx_bytes
    projection = shape.projection_parameters(baseline.hidden) if shape and subject is not baseline else None
    return {
        "name": subject.name,
        "architecture": subject.architecture,
        "dimensions": subject.dimensions,
        "note": subject.note,
        "baseline": subject is baseline,
        "precision": bundle.precision if bundle else "fp32",
        "parameters": subject.parameters,
        "parameters_with_projection": None if projection is None else subject.parameters + projection,
        "flops": shape.flops(length) if shape else None,
        "flops_length": length,
        "fp32_onnx_bytes": subject.onnx_bytes,
        "fp32_onnx_sha256": file_record(subject.onnx)["sha256"],
        "size_bytes": given,
        "part_bytes": subject.parts,
        "metric": bundle.task.metric if bundle else None,
        "score": subject.score,
        "fp32_score": subject.fp32_score,
        "teacher_score": subject.teacher_score,
        "digest": bundle.digest if bundle else None,
        "files": bundle.manifest["files"] if bundle else {},
    }


def _splits(config: BenchConfig, subjects: Sequence[BenchModel]) -> dict[str, Split]:
    """The task's dev texts by subject: from --data or the embedded default; never from the network."""
    found = {}
    for subject in subjects:
        bundle = subject.bundle
        if bundle is None or (config.data is None and bundle.task.name != "rotten-tomatoes"):
            continue
        try:
            found[subject.name] = load_split(bundle.task, "dev", config.data).subsample(config.queries, config.seed)
        except ToolkitError:
            if config.data is not None:
                raise  # without --data they were the embedded data, which are an extra
    if not found and config.chosen_scenarios:
        echo("no texts of the task at hand, so no scenarios: give --data FOLDER")
    return found
