"""The bench's reports: report.json is the record; report.md and report.html say the same to people.

The HTML stands alone: styles and plots are inside, nothing is fetched (its own policy forbids it), and it follows the
reader's light or dark setting.
"""

from __future__ import annotations

import html
import shutil
import tempfile
from pathlib import Path
from typing import Any

from toolkit.bench.report import plots, tables
from toolkit.bench.report.tables import Rows
from toolkit.bundle.format import check_output_path
from toolkit.files import canonical_json, replace
from toolkit.reports.html_page import figure, fill, html_table, section

REPORT = "report.json"
DECOMPOSITION, SCENARIOS = "Where the gain comes from", "Scenarios"


def write_report(content: dict[str, Any], out: Path) -> None:
    """Write report.json, report.md and report.html to a temporary sibling and rename it to `out`."""
    check_output_path(out, REPORT, "bench report")
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        (staging / REPORT).write_bytes(canonical_json(content))
        (staging / "report.md").write_text(markdown(content), encoding="utf-8")
        (staging / "report.html").write_text(page(content), encoding="utf-8")
        staging.chmod(0o755)
        replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def markdown(content: dict[str, Any]) -> str:
    """The report as GitHub Markdown."""
    parts = [f"# Benchmark\n\n{tables.summary(content)}. {content['created']}, toolkit bench."]
    parts += [f"> {warning}" for warning in tables.warnings(content)]
    for title, rows in _tables(content):
        parts.append(f"## {title}\n\n{_markdown_table(rows)}")
    parts.append("## Method\n\n" + "\n\n".join(tables.method(content)))
    return "\n\n".join(parts) + "\n"


def page(content: dict[str, Any]) -> str:
    """The report as one HTML file."""
    shown = {title: html_table(title, rows) for title, rows in _tables(content)}
    figures = _figures(content)
    body = [
        section("Claims", figures["ratios"] + shown.pop("Claims")),
        section("Models", figures["sizes"] + figures["parts"] + shown.pop("Models")),
        section("Speed", figures["length"] + figures["throughput"] + figures.get("score", "") + shown.pop("Speed")),
        *(section(title, shown.pop(title)) for title in (DECOMPOSITION, SCENARIOS) if title in shown),
        section("Method", "".join(f"<p>{html.escape(text)}</p>" for text in tables.method(content))),
        *(section(title, f"<details><summary>Show</summary>{table}</details>") for title, table in shown.items()),
    ]
    return fill(
        title=f"Benchmark: {tables.summary(content)}",
        heading=tables.summary(content),
        about=f"{content['environment']['cpu']}, {content['threads']} thread(s)",
        command="toolkit bench",
        created=content["created"],
        warnings=tables.warnings(content),
        headlines=tables.headlines(content),
        body=body,
    )


def _tables(content: dict[str, Any]) -> list[tuple[str, Rows]]:
    shown = [
        ("Claims", tables.claim_rows(content)),
        ("Models", tables.model_rows(content)),
        ("Speed", tables.speed_rows(content)),
        (DECOMPOSITION, tables.decomposition_rows(content)),
        (SCENARIOS, tables.scenario_rows(content)),
        ("Environment", tables.environment_rows(content)),
        ("Files", tables.file_rows(content)),
    ]
    return [(title, rows) for title, rows in shown if rows[1]]


def _figures(content: dict[str, Any]) -> dict[str, str]:
    found = {
        "ratios": (plots.ratios(content["claims"]), "Each ratio with its 95 % interval against its claim"),
        "length": (plots.latency_by_length(content["latency_by_length"]), "Latency by length, batch 1"),
        "throughput": (
            plots.throughput_by_batch(content["throughput_by_batch"]),
            f"Throughput by batch size, {content['resolved']['length']} tokens",
        ),
        "sizes": (plots.sizes(content["models"]), "Size of the weights"),
        "parts": (plots.parts(content["models"]), "What the bytes are"),
    }
    points, baseline_ms = tables.score_points(content)
    if points:
        metric = next(one["metric"] for one in content["models"] if one["metric"])
        svg = plots.score_by_latency(points, tables.frontier(points), baseline_ms, metric)
        found["score"] = (svg, "Dev score against latency, batch 1; the dotted line joins what nothing else beats")
    where = "the figures are in the table of this section"
    return {name: figure(svg, title, where) for name, (svg, title) in found.items()}


def _markdown_table(rows: Rows) -> str:
    columns, cells = rows
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
