"""The tables of README.md and docs/ in Markdown, one function for each, from stored results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

ABLATIONS_HEAD = ("student", "runs", "before training", "trained", "kept", "against full", "the paper's")
BY_DEV = "were chosen by the dev rows that score them, before rows of train were held out for that."
LABELS_ALONE = "labels alone"  # in the name of a student's start
GAINS = {
    "int8": "int8 over fp32, both ONNX", "batching": "batches of like length over padding to max_length, int8",
    "total": "total: int8 ONNX over BERT-base in PyTorch",
}  # fmt: skip


def front(demo: dict[str, Any]) -> str:
    """Write README's results from the metrics of a demo."""
    base = next(model for model in demo["measured"] if model["baseline"])
    teacher = demo["models"]["teacher"]["metrics"]["accuracy"]
    lines = [
        f"| model | {_split(demo['models']['teacher'])} accuracy | of the teacher | MB | smaller than BERT-base |",
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
    rows = f"{demo.get('scored_rows', 854)} {_split(demo['models']['teacher'])} sentences"
    return (
        f"Rotten Tomatoes, {rows}; {machine}. "
        "From `make demo`; `make results` writes this section out of its report files."
    )


def _split(row: dict[str, Any]) -> str:
    """Name the split of a result; one that does not say is dev's."""
    return str(row.get("split", "dev"))


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def glue(rows: Sequence[dict[str, Any]]) -> str:
    """Write the fraction that students keep of their teachers, by the task's own metric, a row for each task."""
    lines = [
        "| task, split, metric | seeds | teacher | student before training | student | kept |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    retentions = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        cells = [_spread([row[name] for row in of_task]) for name in ("teacher", "start", "student", "retention")]
        retentions.append(mean(row["retention"] for row in of_task))
        name = f"{task}, {_split(of_task[0])}, {of_task[0]['metric'].replace('_', ' ')}"
        lines.append(f"| {name} | {len(of_task)} | {' | '.join(cells)} % |")
    lines += ["", f"Mean over {len(retentions)} tasks: {mean(retentions):.1f} % kept."]
    if before := list(dict.fromkeys(row["task"] for row in rows if "split" not in row)):
        lines.append(f"Steps of {', '.join(before)} {BY_DEV}")
    return "\n".join(lines) + "\n"


def scale(rows: Sequence[dict[str, Any]]) -> str:
    """Write the students of a teacher of BERT-base's size, a row for each initialization, averaged over the seeds."""
    lines = [
        "| `--init` | scored on | epochs of stages a, b | seeds | teacher | student before training | student | kept |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for init in dict.fromkeys(row["init"] for row in rows):
        own = [row for row in rows if row["init"] == init]
        cells = [_spread([row[name] for row in own]) for name in ("teacher", "start", "student")]
        scored = own[0].get("split", "dev, which chose the step")
        epochs = ", ".join(map(str, own[0]["epochs"]))
        kept = _spread([100 * row["student"] / row["teacher"] for row in own])
        lines.append(f"| {init} | {scored} | {epochs} | {len(own)} | {' | '.join(cells)} | {kept} % |")
    first, (teacher, student) = rows[0], (rows[0]["shapes"][name] for name in ("teacher", "student"))
    note = (
        f"{first['task']}, {first['metric']}. Teacher {teacher['shape']}, "
        f"{teacher['parameters'] / 1e6:.1f}M parameters; student {student['shape']}, "
        f"{student['parameters'] / 1e6:.2f}M: {teacher['parameters'] / student['parameters']:.1f}x smaller."
    )
    return "\n".join([*lines, "", note]) + "\n"


def large_teacher(rows: Sequence[dict[str, Any]]) -> str:
    """Say in a sentence what students of a teacher of BERT-base's size keep on rows that chose nothing."""
    own = [row for row in rows if row.get("split") == "test" and LABELS_ALONE not in row["init"]]
    (teacher, student), runs = (own[0]["shapes"][name] for name in ("teacher", "student")), len(own)
    kept = _spread([100 * row["student"] / row["teacher"] for row in own])
    return (
        f"The teacher of these tables has 6 layers. From one of BERT-base's size ({teacher['shape']}) TinyBERT4, "
        f"{teacher['parameters'] / student['parameters']:.1f}x smaller, keeps {kept} % of its accuracy on test "
        f"({'one run' if runs == 1 else f'{runs} runs'}; [how](docs/distillation.md#a-teacher-of-bert-bases-size)).\n"
    )


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


def ablation_rows(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each variant: averages over tasks and seeds in %, and points against `full`."""
    paper = content["paper"]
    full = {(row["task"], row["seed"]): row["student"] for row in content["rows"] if row["variant"] == "full"}
    rows = [row for row in content["rows"] if (row["task"], row["seed"]) in full]
    lines = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        of_name = [row for row in rows if row["variant"] == name]
        lost = [row["student"] - full[row["task"], row["seed"]] for row in of_name]
        cells = [f"{mean(row[figure] for row in of_name):.1f}" for figure in ("start", "student", "retention")]
        published = f"{paper[name] - paper['full']:+.1f}" if name in paper else "-"
        lines.append((name, str(len(of_name)), *cells, _spread(lost, "+"), published))
    return lines


def ablations(content: dict[str, Any]) -> str:
    """Write the effect of each part of the distillation."""
    rows, settings = content["rows"], content["settings"]
    tasks = ", ".join(dict.fromkeys(f"{row['task']} ({_split(row)})" for row in rows))
    seeds = ", ".join(map(str, dict.fromkeys(row["seed"] for row in rows)))
    lines = [f"| {' | '.join(ABLATIONS_HEAD)} |", "|---|" + "--:|" * (len(ABLATIONS_HEAD) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in ablation_rows(content)]
    lines += ["", f"{tasks}; seeds {seeds}; {settings['max_rows']:,} training rows."]
    if any("split" not in row for row in rows):
        lines.append(f"Steps {BY_DEV}")
    return "\n".join(lines) + "\n"


def augmentation(content: dict[str, Any]) -> str:
    """Write the speed of augmentation by a masked language model and its effect on candidates."""
    speed, agreement = content["speed"], content["agreement"]
    agreements = {(row["together"], row["precision"]): row for row in agreement["rows"]}
    lines = [
        "| together | precision | over one word per forward | candidates kept | log-probability |",
        "|--:|---|--:|--:|--:|",
    ]
    for row in speed["rows"]:
        same = agreements[row["together"], row["precision"]]
        lines.append(
            f"| {row['together']} | {row['precision']} | {row['cpu_ratio']:.1f}x "
            f"| {100 * same['same']:.1f} % | {same['log_probability']:.2f} |"
        )
    other, memory = agreement["of_another_word"], content.get("memory", [])
    peaks = ", ".join(f"{peak['peak_mb']:,} MB for {peak['rows']:,} rows" for peak in memory)
    return "\n".join([
        *lines, "",
        f"Speed: {speed['model']}, {speed['sentences']} sentences, {speed['threads']} thread(s) of "
        f"{content['environment']['cpu']}, words per CPU second, median of {speed['repeats']} turns. Candidates: "
        f"{agreement['model']}, {agreement['words']} words, against float32 and one word masked; candidates of another "
        f"word instead: {100 * other['same']:.1f} % and {other['log_probability']:.2f}."
        + (f" Memory with GloVe alone, at its peak: {peaks}." if peaks else ""),
    ]) + "\n"  # fmt: skip


def step_speed(content: dict[str, Any]) -> str:
    """Write the speed of a step of stage a against a plain rendition of the reference code's step."""
    rows = content["measured"]
    first = rows[0]
    lines = [
        "| max_length | samples/s | tokens/s | plain rendition, samples/s | ratio [95 % interval] |",
        "|--:|--:|--:|--:|--:|",
        *(
            f"| {row['max_length']} | {row['samples_per_s']} | {row['tokens_per_s']:,} | {row['plain_samples_per_s']} "
            f"| {row['ratio']:.1f}x [{row['low']:.1f}, {row['high']:.1f}] |"
            for row in rows
        ),
    ]
    note = (
        f"{first['data']}, {first['mean_tokens']} tokens a text; student {first['student']}; {first['precision']}; one "
        f"process with {first['threads']} thread(s), {first['device'].upper()}: {content['environment']['cpu']}."
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
