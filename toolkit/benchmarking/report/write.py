"""The files of a report: report.json is the record; report.md and report.html say the same to people.

The HTML stands alone: styles and plots are inside, nothing is fetched (its own policy forbids it), and it follows the
reader's light or dark setting.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.benchmarking.report import headlines, plots, tables
from toolkit.benchmarking.results import Report
from toolkit.bundle.format import check_output_path
from toolkit.files import atomic_directory, canonical_json, sole_writer
from toolkit.measurement.statistics import undominated
from toolkit.reports.html_page import Figure, Page, Section

REPORT = "report.json"
OPTIONAL = ("rows", "source", "median_tokens", "replicated")
FOLDED = ("Environment", "Files")  # sections that a reader opens


def write_report(report: Report, out: Path) -> None:
    """Write report.json, report.md and report.html to a temporary sibling and rename it to `out`."""
    check_output_path(out, REPORT, "bench report")
    with sole_writer(out), atomic_directory(out) as staging:
        (staging / REPORT).write_bytes(canonical_json(report_json(report)))
        (staging / "report.md").write_text(markdown(report), encoding="utf-8")
        (staging / "report.html").write_text(page(report), encoding="utf-8")


def report_json(report: Report) -> dict[str, Any]:
    """Turn a report into the content of report.json; entries of OPTIONAL that a comparison lacks are left out."""
    content = asdict(report)
    for comparison in content["comparisons"]:
        for name in OPTIONAL:
            if comparison[name] is None:
                del comparison[name]
    return content


def markdown(report: Report) -> str:
    """Write the report as GitHub Markdown."""
    parts = [f"# Benchmark\n\n{headlines.gain(report)}. {headlines.summary(report)}. {report.created}, toolkit bench."]
    parts += [f"> {warning}" for warning in tables.warnings(report)]
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in tables.page_tables(report)]
    parts.append("## Method\n\n" + "\n\n".join(tables.method(report)))
    return "\n\n".join(parts) + "\n"


def page(report: Report) -> str:
    """Write the report as one HTML file."""
    gain = headlines.gain(report)
    sections = [
        Section(table.title, figures=_figures(report, table.title), table=table, folded=table.title in FOLDED)
        for table in tables.page_tables(report)
    ]
    return Page(
        title=f"Benchmark: {gain}",
        heading=gain,
        about=f"{headlines.summary(report)}; {report.environment['cpu']}, {report.threads} thread(s)",
        command="toolkit bench",
        created=report.created,
        warnings=tables.warnings(report),
        headlines=headlines.headlines(report),
        sections=[
            *(section for section in sections if not section.folded),
            Section("Method", tables.method(report)),
            *(section for section in sections if section.folded),
        ],
    ).render()


def _figures(report: Report, section: str) -> list[Figure]:
    """Draw the plots of a section of the page."""
    plotted: list[tuple[str, str]] = []
    if section == "Claims":
        plotted = [(plots.ratios(report.claims), "Each ratio with its 95 % interval against its claim")]
    elif section == "Models":
        plotted = [
            (plots.sizes(report.models), "Size of the weights"),
            (plots.parts(report.models), "What the bytes are"),
        ]
    elif section == "Speed":
        throughput = plots.throughput_by_batch(report.throughput_by_batch)
        plotted = [
            (plots.latency_by_length(report.latency_by_length), "Latency by length, batch 1"),
            (throughput, f"Throughput by batch size, {report.resolved.length} tokens"),
        ]
        points, baseline_ms = tables.score_points(report)
        if points:
            metric = next(f"{model.split} {model.metric}" for model in report.models if model.metric)
            best = undominated(points, lambda point: point.median_ms, lambda point: point.score)
            scores = plots.score_by_latency(points, best, baseline_ms, metric)
            plotted.append((scores, "Score against latency, batch 1; the dotted line joins what nothing else beats"))
    return [Figure(svg, title, "the figures are in the table of this section") for svg, title in plotted]
