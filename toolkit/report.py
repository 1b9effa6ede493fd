"""The bench's reports: report.json is the record; report.md and report.html say the same to people.

The HTML stands alone: styles and plots are inside, nothing is fetched (its own policy forbids it), and it follows the
reader's light or dark setting.
"""

from __future__ import annotations

import html
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from toolkit import findings, plots
from toolkit.bundle import canonical_json
from toolkit.errors import ToolkitError
from toolkit.findings import Rows

REPORT = "report.json"


def check_report_target(out: Path) -> None:
    """Refuse, before anything is measured, a folder that is not an earlier report's.

    Raises:
        ToolkitError: it exists and is something else, or cannot be written.
    """
    if out.exists() and not (out / REPORT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ToolkitError(
            f"{out} exists and is not a bench report, so it is not overwritten",
            expected="a new path, an empty folder or an earlier report",
            fix=f"another --out, or remove {out} yourself",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolkitError(f"cannot create {out.parent}: {error.strerror}", fix="another --out") from error
    if not os.access(out.parent, os.W_OK):
        raise ToolkitError(f"{out.parent} is not writable", fix="another --out")


def write_report(content: dict[str, Any], out: Path) -> None:
    """Write report.json, report.md and report.html to a temporary sibling and rename it to `out`."""
    check_report_target(out)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        (staging / REPORT).write_bytes(canonical_json(content))
        (staging / "report.md").write_text(markdown(content), encoding="utf-8")
        (staging / "report.html").write_text(page(content), encoding="utf-8")
        staging.chmod(0o755)
        old = out.with_name(f".{out.name}.replaced-{os.getpid()}")
        if out.exists():
            out.rename(old)
        staging.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def markdown(content: dict[str, Any]) -> str:
    """The report as GitHub Markdown."""
    parts = [f"# Benchmark\n\n{findings.summary(content)}. {content['created']}, toolkit bench."]
    if warning := findings.disturbance(content):
        parts.append(f"> {warning}")
    for title, rows in _tables(content):
        parts.append(f"## {title}\n\n{_markdown_table(rows)}")
    parts.append("## Method\n\n" + "\n\n".join(findings.method(content)))
    return "\n\n".join(parts) + "\n"


def page(content: dict[str, Any]) -> str:
    """The report as one HTML file."""
    tables = {title: _html_table(title, rows) for title, rows in _tables(content)}
    figures = _figures(content)
    body = [
        _section("Claims", tables.pop("Claims")),
        _section("Models", figures["sizes"] + tables.pop("Models")),
        _section("Speed", figures["length"] + figures.get("score", "") + tables.pop("Speed")),
        _section("Method", "".join(f"<p>{html.escape(text)}</p>" for text in findings.method(content))),
        *(_section(title, f"<details><summary>Show</summary>{table}</details>") for title, table in tables.items()),
    ]
    template = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        summary=html.escape(findings.summary(content)),
        created=html.escape(content["created"]),
        cpu=html.escape(f"{content['environment']['cpu']}, {content['threads']} thread(s)"),
        warning=html.escape(findings.disturbance(content)),
        headlines="".join(
            f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(number)}</dd></div>"
            for number, what in findings.headlines(content)
        ),
        body="\n".join(body),
    )


def _tables(content: dict[str, Any]) -> list[tuple[str, Rows]]:
    return [
        ("Claims", findings.claim_rows(content)),
        ("Models", findings.model_rows(content)),
        ("Speed", findings.speed_rows(content)),
        ("Environment", findings.environment_rows(content)),
        ("Files", findings.file_rows(content)),
    ]


def _figures(content: dict[str, Any]) -> dict[str, str]:
    found = {
        "length": (plots.latency_by_length(content["latency_by_length"]), "Latency by length, batch 1"),
        "sizes": (plots.sizes(content["models"]), "Size of the weights"),
    }
    points, baseline_ms = findings.score_points(content)
    if points:
        metric = next(one["metric"] for one in content["models"] if one["metric"])
        found["score"] = (plots.score_by_latency(points, baseline_ms, metric), "Dev score against latency, batch 1")
    return {
        name: f'<figure role="img" aria-label="{html.escape(title)}; the figures are in the table of this section">'
        f"{svg}<figcaption>{html.escape(title)}</figcaption></figure>"
        for name, (svg, title) in found.items()
    }


def _markdown_table(rows: Rows) -> str:
    columns, cells = rows
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _html_table(title: str, rows: Rows) -> str:
    columns, cells = rows
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{_html_cells(line)}</tr>" for line in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _html_cells(line: Sequence[str]) -> str:
    first, *rest = map(html.escape, line)
    marked = (f'<td class="{cell.lower()}">{cell}</td>' if cell in VERDICTS else f"<td>{cell}</td>" for cell in rest)
    return f'<th scope="row">{first}</th>' + "".join(marked)


VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE")


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{inside}</section>"
