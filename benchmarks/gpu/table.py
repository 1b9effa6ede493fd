"""What a GPU measured as tables in Markdown, from the report of `python -m benchmarks.gpu`."""

from __future__ import annotations

from typing import Any

from benchmarks.distillation import tables

SAMPLES = "samples"  # in the names of entries that hold raw times


def without_samples(value: Any) -> Any:
    """Drop raw times and the costs of single kernels, which nobody reads in a repository."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if SAMPLES not in key and key not in ("kernels", "output")}
        return {key: without_samples(entry) for key, entry in kept.items()}
    return [without_samples(entry) for entry in value] if isinstance(value, list) else value


def claims(report: dict[str, Any]) -> str:
    """Write the speed of TinyBERT4 over BERT-base, a row for each precision and runtime, with the verdict."""
    lines = [
        "| precision, runtime on both sides | BERT-base, ms | TinyBERT4, ms | faster [95 % interval] | claimed "
        "| verdict | memory of a run, MB |",
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    rows = [row for part in ("claim", "runtimes") for row in _rows(report, part) if "claim" in row]
    for row in rows:
        timed, claim = row["comparison"], row["claim"]
        interval = f"{claim['measured']:.1f}x [{claim['low']:.1f}, {claim['high']:.1f}]"
        memory = ", ".join(f"{peak / 1e6:,.0f}" for peak in row["peak_bytes"].values() if peak is not None) or "-"
        lines.append(
            f"| {row['precision']}, {row['runtime']} | {timed['a_median_ms']:.2f} | {timed['b_median_ms']:.2f} "
            f"| {interval} | {claim['required']:g}x | {claim['verdict']} | {memory} |"
        )
    shape = f"Batch {timed['batch_size']}, length {timed['length']}. " if rows else ""
    return "\n".join([*lines, "", shape + _machine(report)]) + "\n"


def all_parts(report: dict[str, Any]) -> str:
    """Write every part that the report has."""
    blocks = [claims(report)]
    if rows := [row for row in _rows(report, "training") if "rows_per_s" in row]:
        blocks.append(training(rows))
    if rows := [row for row in _rows(report, "grid") if "per_s" in row]:
        blocks.append(grid(rows))
    if rows := _rows(report, "quality"):
        blocks.append(tables.glue(rows))
    return "\n".join(blocks)


def training(rows: list[dict[str, Any]]) -> str:
    """Write the speed of both stages, a row for each shape of batches."""
    lines = [
        "| stage | rows x tokens | precision | rows/s | tokens/s | step, ms | of it the host's | without a kernel "
        "| memory, GB | the paper's general distillation, hours |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        waits = "-" if row["device_waits"] is None else f"{100 * row['device_waits']:.0f} %"
        memory = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.1f}"
        hours = f"{row['general_distillation_hours']:.1f}" if "general_distillation_hours" in row else "-"
        lines.append(
            f"| {row['stage']} | {row['batch_size']} x {row['length']} | {row['precision']} | {row['rows_per_s']:,.0f} "
            f"| {row['tokens_per_s']:,.0f} | {row['step_ms']:.1f} | {row['host_ms']:.1f} | {waits} | {memory} "
            f"| {hours} |"
        )
    return "\n".join(lines) + "\n"


def grid(rows: list[dict[str, Any]]) -> str:
    """Write the latency of a single row and the most rows a second, a row for each model, way and length."""
    lines = ["| model | length | one row, ms | most rows/s | at batch |", "|---|--:|--:|--:|--:|"]
    for key in dict.fromkeys((row["model"], row["length"]) for row in rows):
        points = [row for row in rows if (row["model"], row["length"]) == key]
        best = max(points, key=lambda row: row["per_s"])
        single = next((f"{row['median_ms']:.2f}" for row in points if row["batch_size"] == 1), "-")
        lines.append(f"| {key[0]} | {key[1]} | {single} | {best['per_s']:,.0f} | {best['batch_size']:,} |")
    return "\n".join(lines) + "\n"


def _rows(report: dict[str, Any], part: str) -> list[dict[str, Any]]:
    return list(report["parts"].get(part, {}).get("result") or [])


def _machine(report: dict[str, Any]) -> str:
    checks = report["parts"].get("checks", {}).get("result") or {}
    machine, tests = checks.get("environment"), checks.get("tests") or []
    if machine is None:
        return f"{report['created'][:10]}. From `python -m benchmarks.gpu`."
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers"))
    name = machine["gpu"]["name"] if machine["gpu"] else machine["cpu"]
    passed = sum(test["outcome"] == "passed" for test in tests)
    return (
        f"{name}, {versions}, {report['created'][:10]}; {passed} of {len(tests)} tests for it pass. "
        "From `python -m benchmarks.gpu`."
    )
