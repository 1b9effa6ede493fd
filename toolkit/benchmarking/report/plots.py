"""The plots of a report as inline SVG that takes its colours from the page, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from toolkit.benchmarking.report.tables import ScorePoint, milliseconds
from toolkit.benchmarking.results import BatchPoint, Claim, LengthPoint, ModelFacts
from toolkit.bundle.weights import PARTS
from toolkit.reports.svg import MARKERS, MUTED, PAPER, legend, plain_log, series, svg
from toolkit.reports.table import percent

LABEL = 22  # characters that fit beside a plot


def latency_by_length(points: Sequence[LengthPoint]) -> str:
    """Plot median latency in ms over tokens, a line for each model, the baseline's first; both axes logarithmic."""
    values = [(point.model, point.length, point.median_ms) for point in points]
    return _lines("length", values, x="tokens", y="median latency, ms", unit=" ms")


def sizes(models: Sequence[ModelFacts]) -> str:
    """Plot megabytes of each model's weights, a bar each, largest on top."""

    def draw(axes: Any) -> None:
        """Draw a bar for each model, the baseline's in its own colour."""
        ordered = sorted(models, key=lambda model: model.size_bytes)
        names = [f"{_short(model.name)}\n{model.precision}" for model in ordered]
        megabytes = [model.size_bytes / 1e6 for model in ordered]
        colours = [series(0) if model.baseline else series(1) for model in ordered]
        bars = axes.barh(range(len(names)), megabytes, color=colours, height=0.62)
        axes.bar_label(bars, [f"{size:.3g} MB" for size in megabytes], padding=6)
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.16)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("size, MB (10⁶ bytes)")

    return svg("sizes", draw, height=1.3 + 0.7 * len(models))


def score_by_latency(points: Sequence[ScorePoint], best: Sequence[ScorePoint], baseline_ms: float, metric: str) -> str:
    """Plot score over latency at batch 1 with the frontier; a line stands at the baseline's latency.

    Args:
        points: of each model.
        best: the points on the frontier.
        baseline_ms: the baseline's latency.
        metric: the name of the score.
    """

    from matplotlib.ticker import PercentFormatter

    def draw(axes: Any) -> None:
        """Draw a point for each model, its words on the side with room, and a line along the frontier."""
        latencies = [*(point.median_ms for point in points), baseline_ms]
        low, high = min(latencies) / 1.6, max(latencies) * 2
        for i, point in enumerate(points):
            left = point.median_ms**2 > low * high  # in the right half: the words stand on its left
            axes.scatter(point.median_ms, point.score, s=90, color=series(i + 1), marker=MARKERS[i % 6])
            axes.annotate(
                f"{_short(point.label)}\n{percent(point.score)} in {milliseconds(point.median_ms)} ms",
                (point.median_ms, point.score), xytext=(-11 if left else 11, 3), textcoords="offset points",
                va="bottom", ha="right" if left else "left",
            )  # fmt: skip
        line = [point.median_ms for point in best], [point.score for point in best]
        axes.step(*line, where="post", color=MUTED, linewidth=1.2, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        plain_log(axes.xaxis)
        axes.axvline(baseline_ms, color=series(0), linewidth=2, linestyle="--")
        axes.annotate(
            f"baseline\n{milliseconds(baseline_ms)} ms", (baseline_ms, 0.06), xycoords=("data", "axes fraction"),
            xytext=(8, 0), textcoords="offset points",
        )  # fmt: skip
        axes.margins(y=0.5)
        if len({point.score for point in points}) == 1:
            axes.set_ylim(points[0].score - 0.05, points[0].score + 0.05)
        axes.set_xlabel("median latency at batch 1, ms")
        axes.set_ylabel(f"{metric.replace('_', ' ')}, %")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))

    return svg("score", draw, height=3.8)


def ratios(claims: Sequence[Claim]) -> str:
    """Plot each claim's ratio with its interval, and the line that it has to stay at or above."""

    def draw(axes: Any) -> None:
        """Draw a row for each claim: point, interval, and the claim as a dashed line through the row."""
        for i, claim in enumerate(claims):
            middle = claim.measured
            reach = [[middle - claim.low], [claim.high - middle]]
            axes.errorbar(middle, i, xerr=reach, fmt=MARKERS[0], color=series(1), capsize=5, linewidth=2, markersize=8)
            axes.vlines(claim.required, i - 0.4, i + 0.4, color=series(2), linewidth=2, linestyle="--")
            words = f"{middle:.2f}x of {claim.required:g}x\n{claim.verdict}"
            right = max(claim.high, claim.required)
            axes.annotate(words, (right, i), xytext=(10, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(claims)), [fill(claim.claim, LABEL) for claim in claims])
        axes.set_ylim(len(claims) - 0.4, -0.7)
        axes.set_xscale("log")
        edges = [edge for claim in claims for edge in (claim.low, claim.high, claim.required)]
        axes.set_xlim(min(edges) / 1.3, max(edges) * (max(edges) / min(edges)) ** 0.5 * 1.3)  # room for the words
        plain_log(axes.xaxis)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("times smaller or faster; the dashed line is the claim")

    return svg("ratios", draw, height=1.0 + 0.85 * len(claims))


def throughput_by_batch(points: Sequence[BatchPoint]) -> str:
    """Plot inputs a second over batch size, a line for each model; both axes logarithmic."""
    values = [(point.model, point.batch_size, point.per_s) for point in points]
    return _lines("throughput", values, x="batch size", y="inputs a second", unit="/s")


def parts(models: Sequence[ModelFacts]) -> str:
    """Plot the share of embeddings, attention, feed-forward and head in each model's bytes; a stacked bar each."""

    def draw(axes: Any) -> None:
        """Draw a bar for each model, its parts in one order and colour; parts below 8 % have no words."""
        ordered = sorted(models, key=lambda model: model.size_bytes)
        names = [f"{_short(model.name)}\n{model.precision}" for model in ordered]
        left = [0.0] * len(ordered)
        for i, part in enumerate(PARTS):
            shares = [model.part_bytes[part] / sum(model.part_bytes.values()) for model in ordered]
            bars = axes.barh(range(len(names)), shares, left=left, color=series(i + 1), height=0.62, label=part)
            words = [
                f"{model.part_bytes[part] / 1e6:.3g} MB" if fraction >= 0.08 else ""
                for model, fraction in zip(ordered, shares, strict=True)
            ]
            axes.bar_label(bars, words, label_type="center", color=PAPER)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        legend(axes, ncols=3, columnspacing=1, handlelength=1)

    return svg("parts", draw, height=1.9 + 0.7 * len(models))


def _short(name: str) -> str:
    """Cut a long name to its end, which tells a path from its siblings."""
    return name if len(name) <= LABEL else f"…{name[1 - LABEL :]}"


def _lines(name: str, values: Sequence[tuple[str, int, float]], *, x: str, y: str, unit: str) -> str:
    """Plot (model, x, y) as a line for each model, its last value in words; both axes logarithmic."""

    def draw(axes: Any) -> None:
        """Draw the lines, and a tick for each x."""
        for i, model in enumerate(dict.fromkeys(model for model, _, _ in values)):
            xs, ys = zip(*sorted((at, value) for name, at, value in values if name == model), strict=True)
            axes.plot(xs, ys, color=series(i), marker=MARKERS[i % len(MARKERS)], linewidth=2, label=_short(model))
            last = f"{milliseconds(ys[-1])}{unit}"
            axes.annotate(last, (xs[-1], ys[-1]), xytext=(7, -4), textcoords="offset points")
        ticks = sorted({at for _, at, _ in values})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        plain_log(axes.yaxis)
        axes.margins(x=0.12)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend(axes)

    return svg(name, draw, height=4.4)
