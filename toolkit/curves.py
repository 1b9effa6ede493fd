"""A distillation's plots as inline SVG: losses, dev metric, layer map, attention of teacher and student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.plots import GRID, INK, MARKERS, MUTED, legend, series, svg

Readings = Sequence[dict[str, float]]
STUDENT, TEACHER = series(1), series(2)


def losses(stage: str, history: Readings) -> str:
    """Each loss over the steps of a stage, as weighted in the sum that is minimised; the axis is logarithmic."""
    names = list(dict.fromkeys(name for row in history for name in row if name not in ("step", "dev", "seconds")))

    def draw(axes: Any) -> None:
        for i, name in enumerate(names, start=1):
            points = [(row["step"], row[name]) for row in history if name in row]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=series(i), linewidth=2, label=name, marker=MARKERS[i % 6] if len(x) == 1 else None)
        axes.set_yscale("log" if all(row.get(name, 1.0) > 0 for row in history for name in names) else "linear")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        legend(axes)

    return svg(f"loss-{stage}", draw, height=3.6)


def dev_metric(stage: str, history: Readings, metric: str, teacher: float) -> str:
    """The student's dev metric at each evaluation; the teacher's is a line."""

    def draw(axes: Any) -> None:
        points = [(row["step"], row["dev"]) for row in history if "dev" in row]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=STUDENT, marker="o", linewidth=2, label="student")
        axes.axhline(teacher, color=TEACHER, linewidth=2, linestyle="--", label="teacher")
        axes.margins(y=0.25)
        axes.set_xlabel("step")
        axes.set_ylabel(metric.replace("_", " "))
        legend(axes)

    return svg(f"dev-{stage}", draw, height=3.2)


def layer_map(mapping: Sequence[int], teacher_layers: int) -> str:
    """Teacher layers above, student layers below, a line from each to the one it learns from."""

    def draw(axes: Any) -> None:
        rows = ((1.0, teacher_layers, TEACHER, "teacher"), (0.0, len(mapping), STUDENT, "student"))
        for y, layers, colour, name in rows:
            axes.annotate(name, (-0.07, y), ha="right", va="center")
            for layer in range(layers + 1):
                learnt = y == 0.0 or layer in (0, *mapping)
                axes.annotate(
                    str(layer) if layer else "emb", (layer / layers, y), ha="center", va="center",
                    bbox={"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": colour if learnt else GRID,
                          "linewidth": 2},
                )  # fmt: skip
        for m, g in enumerate((0, *mapping)):
            ends = (m / len(mapping), g / teacher_layers), (0.14, 0.86)
            axes.plot(*ends, color=MUTED, linewidth=1.5)
        axes.set_xlim(-0.2, 1.08)
        axes.set_ylim(-0.3, 1.3)
        axes.axis("off")

    return svg("layers", draw, height=2.6)


def attention(number: int, shown: dict[str, Any]) -> str:
    """One input: the attention maps of each mapped layer, the teacher's above the student's; darker is more."""
    tokens, layers = shown["tokens"], shown["layers"]

    def draw(grid: Any) -> None:
        for row, who in enumerate(("teacher", "student")):
            for column, layer in enumerate(layers):
                axes = grid[row][column]
                _heat(axes, layer[who], TEACHER if who == "teacher" else STUDENT)
                axes.set_title(f"{who} {layer[f'{who}_layer']}", fontsize=10)
                if column == 0:
                    axes.set_yticks([i + 0.5 for i in range(len(tokens))], tokens, fontsize=7)
                if row == 1:
                    axes.set_xticks([i + 0.5 for i in range(len(tokens))], tokens, fontsize=7, rotation=90)

    cell = 8.2 / max(len(layers), 3)
    return svg(f"attention-{number}", draw, height=2 * cell + 0.6, panels=(2, len(layers)))


def _heat(axes: Any, weights: Sequence[Sequence[float]], colour: str) -> None:
    from matplotlib.patches import Rectangle

    size, most = len(weights), max(max(row) for row in weights)
    for y, row in enumerate(weights):
        for x, weight in enumerate(row):
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, alpha=weight / most, linewidth=0))
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal", xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.tick_params(length=0, colors=INK)
