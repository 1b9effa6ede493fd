"""The tables of README.md and docs/ in Markdown, one function for each, from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

GAINS = {
    "int8": "int8 over fp32, both ONNX", "batching": "batches of like length over padding to max_length, int8",
    "total": "total: int8 ONNX over BERT-base in PyTorch",
}  # fmt: skip


def front(demo: dict[str, Any]) -> str:
    """Write README's results from the metrics of a demo."""
    base = next(model for model in demo["measured"] if model["baseline"])
    teacher = demo["models"]["teacher"]["metrics"]["accuracy"]
    lines = [
        f"| model | {split_name(demo['models']['teacher'])} accuracy | of the teacher | MB | smaller than BERT-base |",
        "|---|--:|--:|--:|--:|",
        f"| BERT-base, fp32 (architecture only) | - | - | {base['size_bytes'] / 1e6:.1f} | 1.0x |",
    ]
    names = {"teacher": "MiniLM-L6, fp32 (the teacher)", "student": "TinyBERT4, fp32", "int8": "TinyBERT4, int8 ONNX"}
    for key, name in names.items():
        model = demo["models"][key]
        accuracy = model["metrics"]["accuracy"]
        lines.append(
            f"| {name} | {100 * accuracy:.2f} % | {100 * accuracy / teacher:.1f} % | {model['size_bytes'] / 1e6:.1f} "
            f"| {base['size_bytes'] / model['size_bytes']:.1f}x |"
        )
    lines += ["", "| claim or gain | claimed | measured [95 % interval] | verdict |", "|---|--:|--:|---|"]
    for claim in demo["claims"]:
        interval = f" [{claim['low']:.2f}, {claim['high']:.2f}]" if claim["low"] != claim["high"] else ""
        cells = (claim["claim"], f"{claim['required']:g}x", f"{claim['measured']:.2f}x{interval}", claim["verdict"])
        lines.append(f"| {' | '.join(cells)} |")
    for gain in demo["comparisons"]:
        if gain["kind"] in GAINS:
            lengths = f", batch {gain['batch_size']}, length {gain['length']}" if gain["length"] else ", own lengths"
            name = GAINS[gain["kind"]] + lengths
            lines.append(f"| {name} | - | {gain['ratio']:.2f}x [{gain['low']:.2f}, {gain['high']:.2f}] | - |")
    if demo.get("scenarios"):
        lines += ["", *_scenarios(demo)]
    lines += ["", _machine(demo)]
    return "\n".join(lines) + "\n"


def _scenarios(demo: dict[str, Any]) -> list[str]:
    """Write the latency of single texts and the throughput of all, a row for each model, tokenization included."""
    students = [model for model in demo["measured"] if not model["baseline"]]
    names = [name for student in students for name in (student["name"], student["architecture"])]
    lines = [
        "| the dev texts, tokenization included | p50 ms | p90 ms | p99 ms | texts a second, all at once |",
        "|---|--:|--:|--:|--:|",
    ]
    rows = [row for row in demo["scenarios"] if row["length"] is None]
    for label in dict.fromkeys(row["model"] for row in rows if row["scenario"] != "server"):
        single, offline = (
            next(row for row in rows if (row["model"], row["scenario"]) == (label, kind))
            for kind in ("single", "offline")
        )
        name, _, kind = label.partition(", ")
        shown = f"TinyBERT4, {kind}" if name in names else label
        times = " | ".join(f"{single[key]:.1f}" if single[key] else "-" for key in ("p50_ms", "p90_ms", "p99_ms"))
        lines.append(f"| {shown} | {times} | {offline['texts_per_s']:,.0f} |")
    return lines


def _machine(demo: dict[str, Any]) -> str:
    machine = f"{demo['threads']} threads of {demo['environment']['cpu']}, {demo['created'][:10]}"
    rows = f"{demo.get('scored_rows', 854)} {split_name(demo['models']['teacher'])} sentences"
    return (
        f"Rotten Tomatoes, {rows}; {machine}. "
        "From `make demo`; `make results` writes this section out of its report files."
    )


def split_name(row: dict[str, Any]) -> str:
    """Name the split of a result; one that does not say is dev's."""
    return str(row.get("split", "dev"))


def spread(values: Sequence[float], sign: str = "") -> str:
    """Write a mean, and the sample deviation where there are several values."""
    return f"{mean(values):{sign}.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def student_label(row: dict[str, Any]) -> str:
    """Return how a table of sizes names the student of a row."""
    return str(row["task"]) + (", finished" if row["finished"] else "")


def sizes(rows: Sequence[dict[str, Any]], base_mb: float) -> str:
    """Write the loss of int8 in three sizes, a row for each student and size; BERT-base has `base_mb` MB."""
    lines = [
        "| student | export | MB | smaller than BERT-base | dev metric | lost | same label |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        same = "-" if row["agreement"] is None else f"{100 * row['agreement']:.1f} %"
        lines.append(
            f"| {student_label(row)} | {row['size']} | {row['size_mb']:.2f} | {base_mb / row['size_mb']:.0f}x "
            f"| {row['int8']:.2f} | {row['drop']:.2f} | {same} |"
        )
    return "\n".join(lines) + "\n"


def runtimes(content: dict[str, Any]) -> str:
    """Write the time of each runtime with the same student, and how many times faster our int8 is."""
    cells = list(next(iter(content["threads"].values()))["cells"])
    lines = [f"| threads | runtime | {' | '.join(cells)} | by batch |", "|--:|---|" + "--:|" * (len(cells) + 1)]
    for threads, measured in content["threads"].items():
        for name, answers in measured["answers"].items():
            times = (measured["cells"][cell][name] for cell in cells)
            shown = " | ".join(f"{time['median_ms']:.2f} ({time['ours_is_faster']:.2f}x)" for time in times)
            lines.append(f"| {threads} | {name} | {shown} | {answers['batch_difference']:.2g} |")
    note = (
        f"ms a batch (how many times faster our int8 is); texts x tokens; {content['task']}'s dev texts one by one. "
        f"By batch: how far a logit moves when others share its batch. {content['environment']['cpu']}."
    )
    return "\n".join([*lines, "", note]) + "\n"


def serving(load: dict[str, Any]) -> str:
    """Write the throughput of single texts over HTTP, a row for each server, and the ratio of our best to it."""
    ratios = load["ratios"]
    lines = ["| server | texts/s | p50 ms | p99 ms | ours took |", "|---|--:|--:|--:|--:|"]
    for name, server in sorted(load["contenders"].items(), key=lambda item: -item[1]["texts_per_s"]):
        ratio = f"{ratios[name]['rate_ratio']:.2f}x" if name in ratios else "-"
        cells = f"{server['texts_per_s']:,.0f} | {server['p50_ms']:.1f} | {server['p99_ms']:.1f}"
        lines.append(f"| {name} | {cells} | {ratio} |")
    rounds = len(next(iter(load["contenders"].values()))["rounds"])
    cores = f"{load['environment']['logical_cores']} of {load['environment']['cpu']}"
    note = (
        f"{load['texts']:,} texts a round, {load['connections']} connections, medians of {rounds} interleaved rounds. "
        f"The load generator has the same cores, {cores}."
    )
    return "\n".join([*lines, "", note]) + "\n"


def promises(
    overload: dict[str, Any], chaos: dict[str, Any], flat: dict[str, Any], same: dict[str, Any],
    fallback: dict[str, Any],
) -> str:  # fmt: skip
    """Write the server's answers under overload, faults and long load, its scores, and a broken second model."""
    answered, rejected = (overload["statuses"].get(status, 0) for status in ("200", "429"))
    failed = sum(overload["statuses"].values()) - answered - rejected
    idle, ended, rows = overload["idle_first_answer_ms"], chaos["sigterm"], same["rows"]
    identical, asked = (sum(row[key] for row in rows) for key in ("identical", "texts"))
    phases = fallback["phases"].values()
    return "\n".join([
        f"- {overload['times']} times what it takes, for {overload['seconds']:.0f} s: {answered:,} requests answered, "
        f"{rejected:,} refused by 429, {failed} others; p99 of the answers {overload['answered_p99_ms']:.0f} ms at a "
        f"deadline of {overload['timeout_ms']:,} ms; as before {overload['after']['seconds']:.1f} s later.",
        f"- Idle: a text of {idle['tokens']} tokens is answered in {idle['median']:.1f} ms.",
        f"- {chaos['requests']:,} good, broken, slow and vanishing requests: {chaos['fault_count']} faults, memory "
        f"{100 * chaos['growth']:+.1f} %; SIGTERM among {ended['asked']}: {ended['answered']} answered, exit code "
        f"{ended['exit_code']}.",
        f"- {flat['requests']:,} requests: memory {100 * flat['growth']:+.1f} %.",
        f"- Scores over {', '.join(str(row['connections']) for row in rows)} connections: {identical:,} "
        f"of {asked:,} are those of `toolkit predict` to the bit.",
        "- A second model that is killed, hangs, answers garbage or 429, and comes back: "
        f"{sum(phase['answered'] for phase in phases):,} of "
        f"{sum(phase['requests'] for phase in phases):,} requests answered, the slowest after "
        f"{max(phase['slowest_ms'] for phase in phases):.0f} ms; {len(fallback['faults'])} faults.",
    ]) + "\n"  # fmt: skip
