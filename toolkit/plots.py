"""The report's plots as inline SVG that takes its colours from the page, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from toolkit.findings import milliseconds

# Placeholder colours that matplotlib draws with and the page replaces.
INK, MUTED, GRID = "#010203", "#040506", "#070809"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)
}
MARKERS = ("o", "s", "^", "D", "v", "P")  # a second cue beside colour
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "toolkit", "font.family": "sans-serif", "font.size": 11,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "text.color": INK,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


def latency_by_length(rows: Sequence[dict[str, Any]]) -> str:
    """Median latency in ms over tokens, a line for each model, the baseline's first; both axes logarithmic."""

    def draw(axes: Any) -> None:
        for i, name in enumerate(dict.fromkeys(row["model"] for row in rows)):
            points = sorted((row for row in rows if row["model"] == name), key=lambda row: row["length"])
            x, y = [one["length"] for one in points], [one["median_ms"] for one in points]
            axes.plot(x, y, color=_series(i), marker=MARKERS[i % len(MARKERS)], linewidth=2, label=name)
            axes.annotate(f"{milliseconds(y[-1])} ms", (x[-1], y[-1]), xytext=(7, -4), textcoords="offset points")
        lengths = sorted({row["length"] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.minorticks_off()
        _plain_log(axes.yaxis)
        axes.margins(x=0.12)
        axes.set_xlabel("tokens")
        axes.set_ylabel("median latency, ms")
        _legend(axes)

    return _svg("length", draw, height=4.4)


def sizes(models: Sequence[dict[str, Any]]) -> str:
    """Megabytes of each model's weights, a bar each, largest on top."""

    def draw(axes: Any) -> None:
        ordered = sorted(models, key=lambda model: model["size_bytes"])
        names = [f"{model['name']}\n{model['precision']}" for model in ordered]
        megabytes = [model["size_bytes"] / 1e6 for model in ordered]
        colours = [_series(0) if model["baseline"] else _series(1) for model in ordered]
        bars = axes.barh(range(len(names)), megabytes, color=colours, height=0.62)
        axes.bar_label(bars, [f"{one:.3g} MB" for one in megabytes], padding=6)
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.16)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("size, MB (10⁶ bytes)")

    return _svg("sizes", draw, height=1.3 + 0.7 * len(models))


def score_by_latency(points: Sequence[dict[str, Any]], baseline_ms: float, metric: str) -> str:
    """Dev score over latency at batch 1; the baseline's latency is a line where it has no score."""

    def draw(axes: Any) -> None:
        latencies = [*(one["median_ms"] for one in points), baseline_ms]
        low, high = min(latencies) / 1.6, max(latencies) * 2
        for i, point in enumerate(points):
            left = point["median_ms"] ** 2 > low * high  # in the right half: the words stand on its left
            axes.scatter(point["median_ms"], point["score"], s=90, color=_series(i + 1), marker=MARKERS[i % 6])
            axes.annotate(
                f"{point['label']}\n{point['score']:.3f} in {milliseconds(point['median_ms'])} ms",
                (point["median_ms"], point["score"]), xytext=(-11 if left else 11, 0), textcoords="offset points",
                va="center", ha="right" if left else "left",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        _plain_log(axes.xaxis)
        axes.axvline(baseline_ms, color=_series(0), linewidth=2, linestyle="--")
        axes.annotate(
            f"baseline\n{milliseconds(baseline_ms)} ms", (baseline_ms, 0.06), xycoords=("data", "axes fraction"),
            xytext=(8, 0), textcoords="offset points",
        )  # fmt: skip
        axes.margins(y=0.5)
        if len({point["score"] for point in points}) == 1:
            axes.set_ylim(points[0]["score"] - 0.05, points[0]["score"] + 0.05)
        axes.set_xlabel("median latency at batch 1, ms")
        axes.set_ylabel(metric.replace("_", " "))

    return _svg("score", draw, height=3.8)


def _svg(name: str, draw: Callable[[Any], None], *, height: float) -> str:
    """Draw on fresh axes; the SVG element alone, its ids made unique and its colours turned into CSS variables."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(8.2, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    return svg.strip()


def _series(i: int) -> str:
    return SERIES[i % len(SERIES)]


def _plain_log(axis: Any) -> None:
    """20, 50, 100 along a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)
