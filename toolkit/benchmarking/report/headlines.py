"""What a report says first: the gain in a sentence, the claims that pass, and a few numbers."""

from __future__ import annotations

from toolkit.benchmarking.results import Kind, ModelFacts, Report
from toolkit.reports.table import percent


def summary(report: Report) -> str:
    """Count the claims that pass, in a line."""
    verdicts = [claim.verdict for claim in report.claims]
    return f"{verdicts.count('PASS')} of {len(verdicts)} claims pass"


def gain(report: Report) -> str:
    """Say what the first model gains over the baseline as it is given: speed, size, and the points that it keeps."""
    model, baseline = report.measured_models[0], report.baseline
    totals = [entry for entry in report.comparisons if entry.kind == Kind.TOTAL and entry.b.model == model.name]
    entries = totals or [entry for entry in report.comparisons if entry.kind == Kind.DISTILLATION]
    faster = min(entries, key=lambda entry: entry.batch_size).measured()[0].value
    smaller = baseline.fp32_onnx_bytes / model.size_bytes
    sentence = f"{model.name} is {_factor(faster, 'faster', 'slower')} and {_factor(smaller, 'smaller', 'larger')}"
    return f"{sentence} than {baseline.name}{_points(model, baseline)}"


def _factor(ratio: float, better: str, worse: str) -> str:
    return f"{ratio:.1f}x {better}" if ratio >= 1 else f"{1 / ratio:.1f}x {worse}"


def _points(model: ModelFacts, baseline: ModelFacts) -> str:
    metric = (model.metric or "").replace("_", " ")
    if model.score is None:
        return ""
    if baseline.score is not None and baseline.metric == model.metric:
        points = 100 * (model.score - baseline.score)
        return f", with {abs(points):.1f} points of {metric} {'less' if points < 0 else 'more'}"
    if not model.teacher_score:
        return ""
    return f", and keeps {percent(model.score / model.teacher_score)} of its teacher's {metric}"


def headlines(report: Report) -> list[tuple[str, str]]:
    """List numbers with what they count: the slowest batch size's speed, the smallest bundle, the best score."""
    baseline, measured = report.baseline, report.measured_models
    distillation = [comparison for comparison in report.comparisons if comparison.kind == Kind.DISTILLATION]
    speed = min(distillation, key=lambda comparison: comparison.ratio)
    smallest = min(measured, key=lambda model: model.size_bytes)
    times = baseline.fp32_onnx_bytes / smallest.size_bytes
    headlines = [
        (f"{speed.ratio:.1f}x faster", f"than {baseline.name}, fp32 ONNX both, batch {speed.batch_size}"),
        (f"{times:.1f}x smaller", f"{smallest.name}, {smallest.precision}, {smallest.size_bytes / 1e6:.1f} MB"),
    ]
    scored = [(model.score, model) for model in measured if model.score is not None]
    if scored:
        score, best = max(scored, key=lambda pair: pair[0])
        headlines.append((percent(score), f"{best.split} {(best.metric or '').replace('_', ' ')}, {best.name}"))
    return headlines
