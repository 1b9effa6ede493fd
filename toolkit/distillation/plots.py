"""Plots of a distillation as inline SVG: losses, selection metric, layer map, attention of teacher and student."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from toolkit.distillation.attention_maps import AttentionMap
from toolkit.reports.svg import GRID, MARKERS, MUTED, legend, plain_log, series, svg

Readings = Sequence[dict[str, float]]
STUDENT, TEACHER = series(1), series(2)
CELL, LABEL_WIDTH = 12, 70  # of an attention map, in units of its drawing: side of a cell, room for a token's name


def losses(stage: str, history: Readings) -> str:
    """Plot each weighted loss over the steps of a stage; the axis is logarithmic where all values are above 0."""
    names = list(dict.fromkeys(name for row in history for name in row if name not in ("step", "selection", "seconds")))

    def draw(axes: Any) -> None:
        for i, name in enumerate(names, start=1):
            points = [(row["step"], row[name]) for row in history if name in row]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=series(i), linewidth=2, label=name, marker=MARKERS[i % 6] if len(x) == 1 else None)
        if all(row.get(name, 1.0) > 0 for row in history for name in names):
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        legend(axes)

    return svg(f"loss-{stage}", draw, height=3.6)


def selection_metric(stage: str, history: Readings, metric: str) -> str:
    """Plot the student's metric on the rows that choose the step, at each evaluation."""

    def draw(axes: Any) -> None:
        points = [(row["step"], row["selection"]) for row in history if "selection" in row]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=STUDENT, marker="o", linewidth=2)
        axes.margins(y=0.25)
        axes.set_xlabel("step")
        axes.set_ylabel(metric)

    return svg(f"selection-{stage}", draw, height=3.2)


def layer_map(mapping: Sequence[int], teacher_layers: int) -> str:
    """Draw teacher layers above, student layers below, and a line from each student layer to its teacher layer."""

    def draw(axes: Any) -> None:
        """Place the embeddings at 0 and layer m of M at m / M of the width; g(0) = 0."""
        rows = ((1.0, teacher_layers, TEACHER, "teacher"), (0.0, len(mapping), STUDENT, "student"))
        for y, layers, colour, name in rows:
            axes.annotate(name, (-0.07, y), ha="right", va="center")
            for layer in range(layers + 1):
                mapped = y == 0.0 or layer in (0, *mapping)
                axes.annotate(
                    str(layer) if layer else "emb", (layer / layers, y), ha="center", va="center",
                    bbox={"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": colour if mapped else GRID,
                          "linewidth": 2},
                )  # fmt: skip
        for m, g in enumerate((0, *mapping)):
            ends = (m / len(mapping), g / teacher_layers), (0.14, 0.86)
            axes.plot(*ends, color=MUTED, linewidth=1.5)
        axes.set_xlim(-0.2, 1.08)
        axes.set_ylim(-0.3, 1.3)
        axes.axis("off")

    return svg("layers", draw, height=2.6)


def attention(maps: AttentionMap) -> str:
    """Draw the attention maps of one input for each mapped layer, the teacher's above the student's; darker is more.

    The SVG is written by hand: matplotlib would take seconds for its thousands of cells.
    """
    tokens, layers = [html.escape(token) for token in maps["tokens"]], maps["layers"]
    side = CELL * len(tokens)
    parts = []
    rows = (
        ("teacher", "--series-3", [(layer["teacher_layer"], layer["teacher"]) for layer in layers]),
        ("student", "--series-2", [(layer["student_layer"], layer["student"]) for layer in layers]),
    )
    for row, (model, colour, weights) in enumerate(rows):
        for column, (number, probabilities) in enumerate(weights):
            left, top = LABEL_WIDTH + column * (side + CELL), 2 * CELL + row * (side + 2 * CELL)
            parts.append(f'<text x="{left}" y="{top - 4}">{model} {number}</text>')
            parts.append(f'<g transform="translate({left} {top})" fill="var({colour})">{_cells(probabilities)}</g>')
        parts += [_label(token, LABEL_WIDTH - 4, top + (i + 0.75) * CELL) for i, token in enumerate(tokens)]
    bottom = 4 * CELL + 2 * side
    for column in range(len(layers)):
        left = LABEL_WIDTH + column * (side + CELL)
        parts += [
            _label(token, x := left + (i + 0.75) * CELL, bottom + 4, f' transform="rotate(-90 {x} {bottom + 4})"')
            for i, token in enumerate(tokens)
        ]
    box = f"0 0 {LABEL_WIDTH + len(layers) * (side + CELL)} {bottom + LABEL_WIDTH}"
    return f'<svg viewBox="{box}" aria-hidden="true" fill="var(--ink)" font-size="{CELL - 2}">{"".join(parts)}</svg>'


def _cells(weights: Sequence[Sequence[float]]) -> str:
    """Draw a square for each pair of tokens; the strongest of the map is opaque."""
    strongest = max(map(max, weights)) or 1.0
    return "".join(
        f'<rect x="{x * CELL}" y="{y * CELL}" width="{CELL}" height="{CELL}" opacity="{weight / strongest:.2f}"/>'
        for y, row in enumerate(weights)
        for x, weight in enumerate(row)
        if weight / strongest >= 0.005
    )


def _label(token: str, x: float, y: float, rotation: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="end" fill="var(--muted)"{rotation}>{token}</text>'
