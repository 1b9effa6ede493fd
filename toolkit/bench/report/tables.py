"""What a report's figures say, as rows of text: one reading of `report.json` for the terminal, Markdown and HTML."""

from __future__ import annotations

from typing import Any

from toolkit.bench.report.claims import measured_ratio
from toolkit.bench.report.speedup_breakdown import speedup_breakdown
from toolkit.measurement.statistics import Ratio
from toolkit.reports.table import Table

SCHEMA_VERSION = 2
BUSY_SHARE = 0.1  # of all cores
SCENARIOS = {"single": "single stream", "offline": "offline", "server": "server"}
GAINS = {
    "distillation": "distillation",
    "distillation, PyTorch": "distillation, PyTorch",
    "onnx": "ONNX over PyTorch",
    "int8": "int8 over fp32",
    "fp16": "fp16 over fp32",
    "bf16": "bf16 over fp32",
    "batching": "batching by length",
    "total": "total",
    "task lengths": "task's own texts",
    "peer": "ours over a peer",
    "control": "A/A control",
}


def claim_table(content: dict[str, Any]) -> Table:
    """Each claim with what was measured and the verdict."""
    rows = [
        [
            f"{one['claim']} ({one['reason']})" if one["reason"] else one["claim"], one["model"],
            f"{one['required']:g}x", _times(Ratio(one["measured"], one["low"], one["high"], 1)), one["verdict"],
        ]
        for one in content["claims"]
    ]  # fmt: skip
    return Table("Claims", ["claim", "model", "claimed", "measured [95 %]", "verdict"], rows)


def speed_table(content: dict[str, Any]) -> Table:
    """Each comparison: B is how many times faster than A, with both medians and both dev scores."""
    rows = [
        [
            GAINS[one["kind"]], one["a"]["label"], one["b"]["label"], _number(one["a"]["score"]),
            _number(one["b"]["score"]), str(one["batch_size"]),
            str(one["length"]) if one["length"] else f"~{one['median_tokens']:.0f}",
            milliseconds(one["a_median_ms"]), milliseconds(one["b_median_ms"]),
            f"{one['a_noise']:.0%} / {one['b_noise']:.0%}", _times(measured_ratio(one)[0]), _counted(one),
        ]
        for one in sorted(content["comparisons"], key=lambda one: list(GAINS).index(one["kind"]))
    ]  # fmt: skip
    columns = [
        "gain", "A", "B", "score A", "score B", "batch", "tokens", "A ms", "B ms", "noise",
        "A / B [95 %]", "pairs",
    ]  # fmt: skip
    return Table("Speed", columns, rows)


def model_table(content: dict[str, Any]) -> Table:
    """Each model's size, FLOPs and score, and how many times smaller than the baseline it is."""
    baseline = next(one for one in content["models"] if one["baseline"])
    rows = []
    for one in content["models"]:
        gflops = f"{one['flops'] / 1e9:.3g}" if one["flops"] else "-"
        fewer = f"{baseline['flops'] / one['flops']:.1f}x" if one["flops"] and baseline["flops"] else "-"
        smaller = baseline["fp32_onnx_bytes"] / one["size_bytes"]
        rows.append([
            one["name"], one["dimensions"], one["precision"], f"{one['size_bytes'] / 1e6:.1f}", f"{smaller:.2f}x",
            f"{one['parameters'] / 1e6:.2f}", f"{baseline['parameters'] / one['parameters']:.2f}x",
            _with_projection(one, baseline), gflops, fewer, _score(one),
        ])  # fmt: skip
    columns = [
        "model", "layers/hidden/FFN/heads", "precision", "MB", "smaller", "M parameters", "fewer", "with a projection",
        f"GFLOPs at {baseline['flops_length']}", "fewer FLOPs", "dev score",
    ]  # fmt: skip
    return Table("Models", columns, rows)


def breakdown_table(content: dict[str, Any]) -> Table:
    """What each step gains over the one before, and all of them together over the baseline in PyTorch."""
    rows = [
        [
            chain, step.name, step.result, f"{step.size_bytes / 1e6:.1f}" if step.size_bytes else "-",
            f"{step.smaller:.2f}x", _times(step.faster), _number(step.score),
        ]
        for chain, steps in speedup_breakdown(content) for step in steps
    ]  # fmt: skip
    return Table("Where the gain comes from", ["model", "step", "now", "MB", "smaller", "faster [95 %]", "score"], rows)


def scenario_table(content: dict[str, Any]) -> Table:
    """Each scenario and model: latencies of single queries, texts a second, the highest rate of requests."""
    rows = []
    for one in sorted(content["scenarios"], key=lambda one: list(SCENARIOS).index(one["scenario"])):
        shares = [one.get(name) for name in ("p50_ms", "p90_ms", "p99_ms")]
        throughput = f"{one['texts_per_s']:,.0f}" if one["scenario"] == "offline" else "-"
        if one["scenario"] == "server":
            best = one["highest_rate"]
            throughput = f"{best:,.0f} within {one['bound_ms']:g} ms" if best else f"none within {one['bound_ms']:g} ms"
        name = SCENARIOS[one["scenario"]] + (f", {one['rate']:g} a second" if one["scenario"] == "server" else "")
        rows.append([
            name, one["model"], f"padded to {one['length']}" if one["length"] else "own", str(one["queries"]),
            *("-" if value is None else milliseconds(value) for value in shares), throughput, _number(one["score"]),
        ])  # fmt: skip
    columns = ["scenario", "model", "lengths", "texts", "p50 ms", "p90 ms", "p99 ms", "texts a second", "score"]
    return Table("Scenarios", columns, rows)


def terminal_tables(content: dict[str, Any]) -> list[Table]:
    """The tables of the terminal, the verdicts last."""
    builders = (model_table, speed_table, breakdown_table, scenario_table, claim_table)
    return [table for build in builders if (table := build(content)).rows]


def page_tables(content: dict[str, Any]) -> list[Table]:
    """The tables of Markdown and HTML, the verdicts first."""
    builders = (
        claim_table, model_table, speed_table, breakdown_table, scenario_table, environment_table, file_table,
    )  # fmt: skip
    return [table for build in builders if (table := build(content)).rows]


def environment_table(content: dict[str, Any]) -> Table:
    """What it was measured on."""
    about = content["environment"]
    memory = f"{about['memory_bytes'] / 1e9:.1f} GB" if about["memory_bytes"] else "-"
    rows = [
        ["CPU", about["cpu"]],
        ["vector instructions", " ".join(about["vector_flags"]) or "-"],
        ["cores", f"{about['physical_cores']} physical, {about['logical_cores']} logical"],
        ["threads, each side", str(content["threads"])],
        ["device", content["resolved"]["device"]],
        ["GPU", f"{about['gpu']['name']}, CUDA {about['gpu']['cuda']}" if about["gpu"] else "-"],
        ["memory", memory],
        [
            "used by other programs",
            "-" if about["others_share"] is None else f"{about['others_share']:.0%} of all cores",
        ],
        ["system", about["platform"]],
        ["Python", about["python"]],
        ["versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())],
    ]
    return Table("Environment", ["what", "value"], rows)


def file_table(content: dict[str, Any]) -> Table:
    """SHA-256 of every file that was measured."""
    rows = []
    for one in content["models"]:
        rows.append([one["name"], "fp32 ONNX, random weights", f"{one['fp32_onnx_bytes']:,}", one["fp32_onnx_sha256"]])
        rows += [[one["name"], name, f"{file['size_bytes']:,}", file["sha256"]] for name, file in one["files"].items()]
    return Table("Files", ["model", "file", "bytes", "SHA-256"], rows)


def summary(content: dict[str, Any]) -> str:
    """One line: how many of the claims hold."""
    verdicts = [one["verdict"] for one in content["claims"]]
    return f"{verdicts.count('PASS')} of {len(verdicts)} claims pass"


def headlines(content: dict[str, Any]) -> list[tuple[str, str]]:
    """A number and what it counts: the slowest batch size's speed, the smallest bundle, the best score."""
    baseline = next(one for one in content["models"] if one["baseline"])
    measured = [one for one in content["models"] if not one["baseline"]]
    speed = min((one for one in content["comparisons"] if one["kind"] == "distillation"), key=lambda one: one["ratio"])
    smallest = min(measured, key=lambda one: one["size_bytes"])
    times = baseline["fp32_onnx_bytes"] / smallest["size_bytes"]
    found = [
        (f"{speed['ratio']:.1f}x faster", f"than {baseline['name']}, fp32 ONNX both, batch {speed['batch_size']}"),
        (
            f"{times:.1f}x smaller",
            f"{smallest['name']}, {smallest['precision']}, {smallest['size_bytes'] / 1e6:.1f} MB",
        ),
    ]
    scored = [one for one in measured if one["score"] is not None]
    if scored:
        best = max(scored, key=lambda one: one["score"])
        found.append((f"{best['score']:.1%}", f"dev {best['metric'].replace('_', ' ')}, {best['name']}"))
    return found


def warnings(content: dict[str, Any]) -> list[str]:
    """What a reader has to know before quoting a figure: a busy machine, programs that never settled."""
    found, share = [], content["environment"]["others_share"]
    if share is not None and share >= BUSY_SHARE:
        found.append(
            f"Other programs used {share:.0%} of all cores while this was measured: milliseconds are too high, and "
            "PyTorch's with several threads by far. Measure again on a quiet machine before quoting any."
        )
    restless = {GAINS[one["kind"]] for one in content["comparisons"] if not one["steady"]}
    restless |= {SCENARIOS[one["scenario"]] for one in content["scenarios"] if not one.get("steady", True)}
    if restless:
        found.append(f"Still getting faster when their warm-up ran out of time: {', '.join(sorted(restless))}.")
    return found


def method(content: dict[str, Any]) -> list[str]:
    """How it was measured, a paragraph each."""
    notes = sorted({f"{one['name']}: {one['note']}." for one in content["models"] if one["note"]})
    return [
        "Distillation's gain is the headline: both architectures are built from their config.json with random weights "
        "(speed and size do not depend on them), written as fp32 ONNX by one exporter, and run by onnxruntime with the "
        f"same {content['threads']} thread(s); on a GPU without onnxruntime-gpu, by PyTorch on both sides. The other "
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


def score_points(content: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
    """Models that have a score, at their latency at the full length, and the baseline's latency."""
    longest = [one for one in content["latency_by_length"] if one["length"] == content["resolved"]["length"]]
    points: dict[str, dict[str, Any]] = {}
    for model in content["models"]:
        for name, precision, score in (
            (model["name"], model["precision"], model["score"]),
            (model["architecture"], "fp32", model["fp32_score"]),
        ):
            at = next((one for one in longest if one["model"].startswith(f"{name}, {precision} ")), None)
            if at and score is not None:
                points[at["model"]] = {"label": at["model"], "median_ms": at["median_ms"], "score": score}
    return list(points.values()), longest[0]["median_ms"]


def frontier(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other beats in both latency and score, fastest first."""
    best: list[dict[str, Any]] = []
    for one in sorted(points, key=lambda one: (one["median_ms"], -one["score"])):
        if not best or one["score"] > best[-1]["score"]:
            best.append(one)
    return best


def milliseconds(value: float) -> str:
    """Three digits that count: 0.123, 1.23, 12.3, 123, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: Ratio) -> str:
    exact = ratio.low == ratio.high
    return f"{ratio.value:.2f}x" if exact else f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def _counted(one: dict[str, Any]) -> str:
    ratio, unit = measured_ratio(one)
    return str(ratio.pairs) if unit == "pairs" else f"{ratio.pairs} {unit}"


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def _score(model: dict[str, Any]) -> str:
    if model["score"] is None:
        return "-"
    kept = f" ({model['score'] / model['teacher_score']:.1%} of teacher)" if model["teacher_score"] else ""
    return f"{model['metric']} {model['score']:.4f}{kept}"


def _with_projection(model: dict[str, Any], baseline: dict[str, Any]) -> str:
    count = model["parameters_with_projection"]
    return f"{baseline['parameters'] / count:.2f}x" if count else "-"
