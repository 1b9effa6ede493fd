"""The tables of docs/ about thresholds, calibration and `toolkit score`, one function for each, from stored results."""

from __future__ import annotations

from statistics import median
from typing import Any


def thresholds(report: dict[str, Any]) -> str:
    """Write how often thresholds break their promise, a row for each share and number of calibration rows."""
    lines = [
        "| asked | rows | broken, guaranteed | broken, off the curve | none holds | answered, guaranteed |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    found = {(run["share"], run["rows"], run["threshold"]): run for run in report["runs"]}
    for share, rows in dict.fromkeys((run["share"], run["rows"]) for run in report["runs"]):
        kept, curve = (found[share, rows, name] for name in ("guaranteed", "off the curve"))
        cells = (kept["broken"], curve["broken"], kept["none"], kept["coverage"])
        lines.append(f"| {100 * share:g} % | {rows:,} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |")
    note = (
        f"{report['draws']} draws of rows from {report['sentences']:,} IMDb sentences that neither model learnt from; "
        f"the demo's int8 student gives its teacher's label to {100 * report['agreement']:.1f} % of all. A guarantee "
        f"of {100 * report['certainty']:g} % may break in {100 - 100 * report['certainty']:g} % of draws."
    )
    return "\n".join([*lines, "", note]) + "\n"


def calibration(runs: list[dict[str, Any]]) -> str:
    """Write the calibration error of each student before and after its temperature."""
    lines = [
        "| student | rows: learnt, fit, tell | temperature | ECE before | after | by chance |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        errors = " | ".join(f"{100 * run[name]:.2f} %" for name in ("before", "after", "chance"))
        rows = ", ".join(f"{run[name]:,}" for name in ("learnt", "rows", "reported"))
        lines.append(f"| {run['task']}, {run['precision']} | {rows} | {run['temperature']:.2f} | {errors} |")
    note = f"TinyBERT4 students of MiniLM. Means over {runs[0]['draws']} draws of the rows that fit, out of the unseen."
    return "\n".join([*lines, "", note]) + "\n"


def scoring(report: dict[str, Any]) -> str:
    """Write the rate of `toolkit score` beside the engine's, its peak memory, and what kills left."""
    peaks = {rows: report["peak_bytes"][str(rows)] for rows in report["rows"]}
    score, engine = (median(row[kind] for row in report["rounds"]) for kind in ("score", "engine"))
    kills = ", ".join(f"{kill['seconds']:.0f} s ({kill['parts']} parts)" for kill in report["kills"])
    memory = " and ".join(f"{peak / 1e6:.0f} MB at {rows:,} rows" for rows, peak in peaks.items())
    return "\n".join([
        f"- {max(peaks):,} IMDb sentences on {report['cpus']} CPUs, start and joining included: {score:,.0f} texts "
        f"a second, {100 * report['rate_ratio']:.1f} % of the engine's own {engine:,.0f} over texts in memory "
        f"(median of {len(report['rounds'])} pairs).",
        f"- Peak memory: {memory}, {100 * (report['memory_ratio'] - 1):+.1f} %.",
        f"- Killed after {kills} and given again: "
        f"{'the same bytes' if report['same_bytes'] else 'other bytes'} as without a kill.",
    ]) + "\n"  # fmt: skip
