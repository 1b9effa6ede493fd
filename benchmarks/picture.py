"""README's picture: latency and size of BERT-base and its student as bars, from the stored results of a demo."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, TOP, PANEL = 640, 84, 134  # pixels: of the picture, above the first caption, of a caption with its bars
LEFT, LONGEST, STEP = 150, 300, 30  # of the bars: left edge, greatest length, distance
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 17px } .muted { fill: #59636e }
.base { fill: #afb8c1 } .student { fill: #1a7f64 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .muted { fill: #9198a1 } .base { fill: #57606a } .student { fill: #3fb995 }
}"""


def gain(demo: dict[str, Any]) -> str:
    """Draw an SVG page of its own, which follows the reader's light or dark colours."""
    base = next(model for model in demo["measured"] if model["baseline"])
    single = {
        row["model"]: row["p50_ms"] for row in demo["scenarios"] if row["scenario"] == "single" and not row["length"]
    }
    baseline, student, int8 = single  # in the order in which bench lists them
    sizes = [base["size_bytes"], demo["models"]["student"]["size_bytes"], demo["models"]["int8"]["size_bytes"]]
    names = (f"{base['name']}, fp32", "TinyBERT4, fp32", "TinyBERT4, int8")
    times = [single[baseline], single[student], single[int8]]
    accuracy = {name: demo["models"][name]["metrics"]["accuracy"] for name in ("teacher", "int8")}
    title = f"{times[0] / times[2]:.0f}x faster and {sizes[0] / sizes[2]:.0f}x smaller than BERT-base"
    kept = f"TinyBERT4 in int8 keeps {100 * accuracy['int8'] / accuracy['teacher']:.1f} % of its teacher's accuracy."
    cpu = f"{demo['threads']} threads of {demo['environment']['cpu']}"
    panels = [
        *_bars(f"milliseconds a text, in ONNX Runtime on {cpu}", names, times, "ms", top=TOP),
        *_bars("megabytes on disk", names, [size / 1e6 for size in sizes], "MB", top=TOP + PANEL),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + 2 * PANEL}" role="img" '
        f'aria-label="{escape(f"{title}. {kept}")}">\n<style>{STYLE}\n</style>\n'
        f'<text class="title" x="0" y="22">{escape(title)}</text>\n<text x="0" y="46">{escape(kept)}</text>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _bars(caption: str, names: Sequence[str], values: Sequence[float], unit: str, *, top: int) -> list[str]:
    """Draw a caption and a bar for each value, with its figure and how many times less it is than the first."""
    shapes = [f'<text class="muted" x="0" y="{top}">{escape(caption)}</text>']
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y, length = top + 12 + i * STEP, max(LONGEST * value / values[0], 2)
        figure = f"{value:.3g} {unit}" + (f", {values[0] / value:.1f}x less" if i else "")
        shapes += [
            f'<text x="0" y="{y + 15}">{escape(name)}</text>',
            f'<rect class="{"student" if i else "base"}" x="{LEFT}" y="{y}" width="{length:.1f}" height="20" rx="3"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{y + 15}">{escape(figure)}</text>',
        ]
    return shapes
