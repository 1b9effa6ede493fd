"""A report as tables and sentences: one reading of it for the terminal, Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.benchmarking.report.speedup_breakdown import speedup_breakdown
from toolkit.benchmarking.results import Kind, Latencies, ModelFacts, Offline, Report, ServerLoad, SingleStream
from toolkit.measurement.statistics import Ratio
from toolkit.reports.table import Table, percent

BUSY_SHARE = 0.1  # of all cores
SCENARIOS = {"single": "single stream", "offline": "offline", "server": "server"}
GAINS = {
    Kind.DISTILLATION: "distillation",
    Kind.DISTILLATION_PYTORCH: "distillation, PyTorch",
    Kind.ONNX: "ONNX over PyTorch",
    Kind.INT8: "int8 over fp32",
    Kind.FP16: "fp16 over fp32",
    Kind.BF16: "bf16 over fp32",
    Kind.BATCHING: "batching by length",
    Kind.TOTAL: "total",
    Kind.TASK_LENGTHS: "task's own texts",
    Kind.PEER: "ours over a peer",
    Kind.CONTROL: "A/A control",
}


def claim_table(report: Report) -> Table:
    """Show each claim with the measured ratio and the verdict."""
    rows = [
        [
            f"{claim.claim} ({claim.reason})" if claim.reason else claim.claim, claim.model,
            f"{claim.required:g}x", _times(Ratio(claim.measured, claim.low, claim.high, 1)), claim.verdict,
        ]
        for claim in report.claims
    ]  # fmt: skip
    return Table("Claims", ["claim", "model", "claimed", "measured [95 %]", "verdict"], rows)


def speed_table(report: Report) -> Table:
    """Show each comparison: B is how many times faster than A, with both medians and both scores."""
    rows = []
    for comparison in sorted(report.comparisons, key=lambda comparison: list(GAINS).index(comparison.kind)):
        ratio, unit = comparison.measured()
        rows.append([
            GAINS[comparison.kind], comparison.a.label, comparison.b.label, _share(comparison.a.score),
            _share(comparison.b.score), str(comparison.batch_size),
            str(comparison.length) if comparison.length else f"~{comparison.median_tokens:.0f}",
            milliseconds(comparison.a_median_ms), milliseconds(comparison.b_median_ms),
            f"{percent(comparison.a_noise, 0)} / {percent(comparison.b_noise, 0)}", _times(ratio),
            str(ratio.pairs) if unit == "pairs" else f"{ratio.pairs} {unit}",
        ])  # fmt: skip
    columns = [
        "gain", "A", "B", "score A", "score B", "batch", "tokens", "A ms", "B ms", "noise",
        "A / B [95 %]", "pairs",
    ]  # fmt: skip
    return Table("Speed", columns, rows)


def model_table(report: Report) -> Table:
    """Show each model's size, FLOPs and score, and how many times smaller than the baseline it is."""
    baseline, rows = report.baseline, []
    for model in report.models:
        gflops = f"{model.flops / 1e9:.3g}" if model.flops else "-"
        fewer = f"{baseline.flops / model.flops:.1f}x" if model.flops and baseline.flops else "-"
        smaller = baseline.fp32_onnx_bytes / model.size_bytes
        rows.append([
            model.name, model.dimensions, model.precision, f"{model.size_bytes / 1e6:.1f}", f"{smaller:.2f}x",
            f"{model.parameters / 1e6:.2f}", f"{baseline.parameters / model.parameters:.2f}x",
            _with_projection(model, baseline), gflops, fewer, _score(model),
        ])  # fmt: skip
    columns = [
        "model", "layers/hidden/FFN/heads", "precision", "MB", "smaller", "M parameters", "fewer", "with a projection",
        f"GFLOPs at {baseline.flops_length}", "fewer FLOPs", "score",
    ]  # fmt: skip
    return Table("Models", columns, rows)


def breakdown_table(report: Report) -> Table:
    """Show the gain of each step over the one before, and of all together over the baseline in PyTorch."""
    rows = [
        [
            name, step.name, step.result, f"{step.size_bytes / 1e6:.1f}" if step.size_bytes else "-",
            f"{step.smaller:.2f}x", _times(step.faster), _share(step.score),
        ]
        for name, steps in speedup_breakdown(report) for step in steps
    ]  # fmt: skip
    return Table("Where the gain comes from", ["model", "step", "now", "MB", "smaller", "faster [95 %]", "score"], rows)


def scenario_table(report: Report) -> Table:
    """Show each scenario and model: latencies of single queries, texts a second, the highest rate of requests."""
    rows = []
    for scenario in sorted(report.scenarios, key=lambda scenario: list(SCENARIOS).index(scenario.scenario)):
        name, throughput, percentiles = SCENARIOS[scenario.scenario], "-", list[float | None]([None] * 3)
        if isinstance(scenario, Latencies):
            percentiles = [scenario.p50_ms, scenario.p90_ms, scenario.p99_ms]
        if isinstance(scenario, Offline):
            throughput = f"{scenario.texts_per_s:,.0f}"
        if isinstance(scenario, ServerLoad):
            name += f", {scenario.rate:g} a second"
            rate = f"{scenario.highest_rate:,.0f}" if scenario.highest_rate else "none"
            throughput = f"{rate} within {scenario.bound_ms:g} ms"
        rows.append([
            name, scenario.model, f"padded to {scenario.length}" if scenario.length else "own", str(scenario.queries),
            *("-" if value is None else milliseconds(value) for value in percentiles), throughput,
            _share(scenario.score),
        ])  # fmt: skip
    columns = ["scenario", "model", "lengths", "texts", "p50 ms", "p90 ms", "p99 ms", "texts a second", "score"]
    return Table("Scenarios", columns, rows)


def terminal_tables(report: Report) -> list[Table]:
    """List the tables of the terminal, the verdicts last."""
    builders = (model_table, speed_table, breakdown_table, scenario_table, claim_table)
    return [table for build in builders if (table := build(report)).rows]


def page_tables(report: Report) -> list[Table]:
    """List the tables of Markdown and HTML, the verdicts first."""
    builders = (
        claim_table, model_table, speed_table, breakdown_table, scenario_table, environment_table, file_table,
    )  # fmt: skip
    return [table for build in builders if (table := build(report)).rows]


def environment_table(report: Report) -> Table:
    """Show the machine and the versions that were measured on."""
    machine = report.environment
    gpu, share = machine["gpu"], machine["others_share"]
    rows = [
        ["CPU", machine["cpu"]],
        ["vector instructions", " ".join(machine["vector_flags"]) or "-"],
        ["cores", f"{machine['physical_cores']} physical, {machine['logical_cores']} logical"],
        ["threads, each side", str(report.threads)],
        ["device", report.resolved.device],
        ["GPU", f"{gpu['name']}, CUDA {gpu['cuda']}" if gpu else "-"],
        ["memory", f"{machine['memory_bytes'] / 1e9:.1f} GB" if machine["memory_bytes"] else "-"],
        ["used by other programs", "-" if share is None else f"{percent(share, 0)} of all cores"],
        ["system", machine["platform"]],
        ["Python", machine["python"]],
        ["versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())],
    ]
    return Table("Environment", ["what", "value"], rows)


def file_table(report: Report) -> Table:
    """Show the SHA-256 of every file that was measured."""
    rows = []
    for model in report.models:
        rows.append([model.name, "fp32 ONNX, random weights", f"{model.fp32_onnx_bytes:,}", model.fp32_onnx_sha256])
        rows += [[model.name, name, f"{file['size_bytes']:,}", file["sha256"]] for name, file in model.files.items()]
    return Table("Files", ["model", "file", "bytes", "SHA-256"], rows)


def warnings(report: Report) -> list[str]:
    """List what a reader has to know before quoting a figure: a busy machine, programs that were not warm."""
    warnings, share = [], report.environment["others_share"]
    if share is not None and share >= BUSY_SHARE:
        warnings.append(
            f"Other programs used {percent(share, 0)} of all cores while this was measured: milliseconds are too high, "
            "and PyTorch's with several threads by far. Measure again on a quiet machine before quoting any."
        )
    unsteady = {GAINS[comparison.kind] for comparison in report.comparisons if not comparison.steady}
    unsteady |= {
        SCENARIOS[scenario.scenario] for scenario in report.scenarios
        if isinstance(scenario, SingleStream | Offline) and not scenario.steady
    }  # fmt: skip
    if unsteady:
        warnings.append(f"Still getting faster when their warm-up ran out of time: {', '.join(sorted(unsteady))}.")
    return warnings


def method(report: Report) -> list[str]:
    """Explain how the report was measured, a paragraph each."""
    notes = sorted({f"{model.name}: {model.note}." for model in report.models if model.note})
    return [
        "Distillation's gain is the headline: both architectures are built from their config.json with random weights "
        "(speed and size do not depend on them), written as fp32 ONNX by one exporter, and run by onnxruntime with the "
        f"same {report.threads} thread(s); on a GPU without onnxruntime-gpu, by PyTorch on both sides. The other "
        "gains stand apart, each against the step before it; the total is the bundle as given against the baseline in "
        "fp32 PyTorch.",
        "A and B are timed in turn, A B B A A B ..., after a warm-up that lasts until a program stops getting faster; "
        "programs faster than 100 ms run once untimed before each timed run. The ratio is the median of A / B over "
        "pairs, its interval the 95 % percentile bootstrap; noise is the range of the middle half of the times as a "
        "share of their median. A claim passes when the whole interval is at or above it, fails when the whole is "
        "below, and is inconclusive otherwise. Measuring stops early once a 99.9 % interval settles the claim. With "
        "fresh processes each gives one ratio, and the interval is Student's t over their logarithms.",
        "onnxruntime's pools spin only while a run lasts (session.force_spinning_stop), on both sides, so that neither "
        "takes cores from the other. The A/A control times two sessions of one model: it should contain 1. Peers rest "
        "before each turn, until idle threads have stopped spinning.",
        "Scenarios are MLPerf's, over the task's own texts, tokenization included: single stream asks one text at a "
        "time; offline has all at once and batches them by length; server sends requests over HTTP at random moments, "
        "counts each latency from when it was due, and looks for the highest rate whose p99 keeps the bound.",
        "MB are 10^6 bytes over every file the weights need. FLOPs: two for each multiply-add of linear layers and "
        "attention, one for each bias; not counted: look-ups, softmax, LayerNorm, GELU. Parameters 'with a projection' "
        "add one training-only map to the baseline's width, which is not deployed. A score beside an architecture in "
        "fp32 is that of the bundle's own fp32 weights; random weights have none.",
        *notes,
    ]


@dataclass(frozen=True)
class ScorePoint:
    """A model's score and its median latency at batch 1."""

    label: str
    median_ms: float
    score: float


def score_points(report: Report) -> tuple[list[ScorePoint], float]:
    """Place every model that has a score at its latency at the full length; return the baseline's latency beside."""
    longest = [point for point in report.latency_by_length if point.length == report.resolved.length]
    points: dict[str, ScorePoint] = {}
    for model in report.models:
        for name, precision, score in (
            (model.name, model.precision, model.score),
            (model.architecture, "fp32", model.fp32_score),
        ):
            latency = next((point for point in longest if point.model.startswith(f"{name}, {precision} ")), None)
            if latency and score is not None:
                points[latency.model] = ScorePoint(latency.model, latency.median_ms, score)
    return list(points.values()), longest[0].median_ms


def milliseconds(value: float) -> str:
    """Write three digits that count: 0.123, 1.23, 12.3, 123, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: Ratio) -> str:
    exact = ratio.low == ratio.high
    return f"{ratio.value:.2f}x" if exact else f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def _share(score: float | None) -> str:
    return "-" if score is None else percent(score, 2)


def _score(model: ModelFacts) -> str:
    if model.score is None:
        return "-"
    share = f" ({percent(model.score / model.teacher_score)} of teacher)" if model.teacher_score else ""
    return f"{model.split} {model.metric} {percent(model.score, 2)}{share}"


def _with_projection(model: ModelFacts, baseline: ModelFacts) -> str:
    count = model.parameters_with_projection
    return f"{baseline.parameters / count:.2f}x" if count else "-"
