"""The bench's reports: report.json is the record; report.md and report.html say the same to people.

The HTML stands alone: styles and plots are inside, nothing is fetched (its own policy forbids it), and it follows the
reader's light or dark setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.bench.report import plots, tables
from toolkit.bundle.format import check_output_path
from toolkit.files import atomic_directory, canonical_json
from toolkit.reports.html_page import Figure, Page, Section

REPORT = "report.json"
FOLDED = ("Environment", "Files")  # sections that a reader opens


def write_report(content: dict[str, Any], out: Path) -> None:
    """Write report.json, report.md and report.html to a temporary sibling and rename it to `out`."""
    check_output_path(out, REPORT, "bench report")
    with atomic_directory(out) as staging:
        (staging / REPORT).write_bytes(canonical_json(content))
        (staging / "report.md").write_text(markdown(content), encoding="utf-8")
        (staging / "report.html").write_text(page(content), encoding="utf-8")


def markdown(content: dict[str, Any]) -> str:
    """The report as GitHub Markdown."""
    parts = [f"# Benchmark\n\n{tables.summary(content)}. {content['created']}, toolkit bench."]
    parts += [f"> {warning}" for warning in tables.warnings(content)]
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in tables.page_tables(content)]
    parts.append("## Method\n\n" + "\n\n".join(tables.method(content)))
    return "\n\n".join(parts) + "\n"


def page(content: dict[str, Any]) -> str:
    """The report as one HTML file."""
    summary, shown = tables.summary(content), {table.title: table for table in tables.page_tables(content)}
    sections = [Section(title, figures=_figures(content, title), table=shown.get(title)) for title in shown]
    first = [section for section in sections if section.title not in FOLDED]
    return Page(
        title=f"Benchmark: {summary}",
        heading=summary,
        about=f"{content['environment']['cpu']}, {content['threads']} thread(s)",
        command="toolkit bench",
        created=content["created"],
        warnings=tables.warnings(content),
        headlines=tables.headlines(content),
        sections=[
            *first,
            Section("Method", tables.method(content)),
            *(Section(title, table=shown[title], folded=True) for title in FOLDED),
        ],
    ).render()


def _figures(content: dict[str, Any], section: str) -> list[Figure]:
    """The plots of a section of the page."""
    plotted: list[tuple[str, str]] = []
    if section == "Claims":
        plotted = [(plots.ratios(content["claims"]), "Each ratio with its 95 % interval against its claim")]
    elif section == "Models":
        plotted = [
            (plots.sizes(content["models"]), "Size of the weights"),
            (plots.parts(content["models"]), "What the bytes are"),
        ]
    elif section == "Speed":
        throughput = plots.throughput_by_batch(content["throughput_by_batch"])
        plotted = [
            (plots.latency_by_length(content["latency_by_length"]), "Latency by length, batch 1"),
            (throughput, f"Throughput by batch size, {content['resolved']['length']} tokens"),
        ]
        points, baseline_ms = tables.score_points(content)
        if points:
            metric = next(model["metric"] for model in content["models"] if model["metric"])
            scores = plots.score_by_latency(points, tables.frontier(points), baseline_ms, metric)
            plotted.append(
                (scores, "Dev score against latency, batch 1; the dotted line joins what nothing else beats")
            )
    return [Figure(svg, title, "the figures are in the table of this section") for svg, title in plotted]
