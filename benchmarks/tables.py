"""Stored results as Markdown: the tables of README.md and docs/, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

ABLATIONS_HEAD = ("student", "runs", "before training", "dev", "kept", "against full", "the paper's")
GAINS = {
    "int8": "int8 over fp32, both ONNX", "batching": "batches of like length over padding to max_length, int8",
    "total": "total: int8 ONNX over BERT-base in PyTorch",
}  # fmt: skip


def front(demo: dict[str, Any]) -> str:
    """README's results, from a demo's figures."""
    base = next(one for one in demo["measured"] if one["baseline"])
    teacher = demo["models"]["teacher"]["metrics"]["accuracy"]
    lines = [
        "| model | dev accuracy | of the teacher | MB | smaller than BERT-base |",
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
    for one in demo["claims"]:
        interval = f" [{one['low']:.2f}, {one['high']:.2f}]" if one["low"] != one["high"] else ""
        lines.append(f"| {one['claim']} | {one['required']:g}x | {one['measured']:.2f}x{interval} | {one['verdict']} |")
    for one in demo["comparisons"]:
        if one["kind"] in GAINS:
            fixed = f", batch {one['batch_size']}, length {one['length']}" if one["length"] else ", own lengths"
            name = GAINS[one["kind"]] + fixed
            lines.append(f"| {name} | - | {one['ratio']:.2f}x [{one['low']:.2f}, {one['high']:.2f}] | - |")
    if demo.get("scenarios"):
        lines += ["", *_scenarios(demo)]
    lines += ["", _machine(demo)]
    return "\n".join(lines) + "\n"


def _scenarios(demo: dict[str, Any]) -> list[str]:
    """One text at a time, and all at once: a row for each model, the task's own lengths, tokenization included."""
    names = [name for one in demo["measured"] if not one["baseline"] for name in (one["name"], one["architecture"])]
    lines = [
        "| the dev texts, tokenization included | p50 ms | p90 ms | p99 ms | texts a second, all at once |",
        "|---|--:|--:|--:|--:|",
    ]
    rows = [one for one in demo["scenarios"] if one["length"] is None]
    for label in dict.fromkeys(one["model"] for one in rows if one["scenario"] != "server"):
        single, offline = (
            next(one for one in rows if (one["model"], one["scenario"]) == (label, kind))
            for kind in ("single", "offline")
        )
        name, _, kind = label.partition(", ")
        shown = f"TinyBERT4, {kind}" if name in names else label
        shares = " | ".join(f"{single[key]:.1f}" if single[key] else "-" for key in ("p50_ms", "p90_ms", "p99_ms"))
        lines.append(f"| {shown} | {shares} | {offline['texts_per_s']:,.0f} |")
    return lines


def _machine(demo: dict[str, Any]) -> str:
    machine = f"{demo['threads']} threads of {demo['environment']['cpu']}, {demo['created'][:10]}"
    return (
        f"Rotten Tomatoes, 854 sentences held out; {machine}. "
        "From `make demo`; `make results` writes this section out of its report files."
    )


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def glue(rows: Sequence[dict[str, Any]]) -> str:
    """What students keep of their teachers, a line for each task; dev, by the task's own metric."""
    lines = [
        "| task, dev metric | seeds | teacher | student before training | student | kept |", "|---|--:|--:|--:|--:|--:|"
    ]  # fmt: skip
    kept = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        cells = [_spread([row[name] for row in of_task]) for name in ("teacher", "start", "student", "retention")]
        kept.append(mean(row["retention"] for row in of_task))
        lines.append(f"| {task}, {of_task[0]['metric'].replace('_', ' ')} | {len(of_task)} | {' | '.join(cells)} % |")
    return "\n".join([*lines, "", f"Mean over {len(kept)} tasks: {mean(kept):.1f} % kept."]) + "\n"


def scale(rows: Sequence[dict[str, Any]]) -> str:
    """Students of a teacher of BERT-base's size, a line for each way to start."""
    lines = [
        "| `--init` | epochs of stages a, b | teacher | student before training | student | kept |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [f"{row[name]:.2f}" for name in ("teacher", "start", "student")]
        kept = 100 * row["student"] / row["teacher"]
        lines.append(f"| {row['init']} | {', '.join(map(str, row['epochs']))} | {' | '.join(cells)} | {kept:.1f} % |")
    one, (teacher, student) = rows[0], (rows[0]["shapes"][name] for name in ("teacher", "student"))
    told = (
        f"{one['task']}, {one['metric']} on dev, seed {one['seed']}. Teacher {teacher['shape']}, "
        f"{teacher['parameters'] / 1e6:.1f}M parameters; student {student['shape']}, "
        f"{student['parameters'] / 1e6:.2f}M: {teacher['parameters'] / student['parameters']:.1f}x smaller."
    )
    return "\n".join([*lines, "", told]) + "\n"


def whose(row: dict[str, Any]) -> str:
    """The student of a row of `sizes`, by its task."""
    return str(row["task"]) + (", finished" if row["finished"] else "")


def sizes(rows: Sequence[dict[str, Any]], base_mb: float) -> str:
    """What three sizes of int8 cost, a line for each student and size; BERT-base takes `base_mb`."""
    lines = [
        "| student | export | MB | smaller than BERT-base | dev metric | lost | same label |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        same = "-" if row["agreement"] is None else f"{100 * row['agreement']:.1f} %"
        lines.append(
            f"| {whose(row)} | {row['size']} | {row['size_mb']:.2f} | {base_mb / row['size_mb']:.0f}x "
            f"| {row['int8']:.2f} | {row['drop']:.2f} | {same} |"
        )
    return "\n".join(lines) + "\n"


def runtimes(content: dict[str, Any]) -> str:
    """What each runtime takes for one student, and how many times faster our int8 is."""
    cells = list(next(iter(content["threads"].values()))["cells"])
    lines = [f"| threads | runtime | {' | '.join(cells)} | by batch |", "|--:|---|" + "--:|" * (len(cells) + 1)]
    for threads, found in content["threads"].items():
        for name, answers in found["answers"].items():
            times = (found["cells"][cell][name] for cell in cells)
            shown = " | ".join(f"{one['median_ms']:.2f} ({one['ours_is_faster']:.2f}x)" for one in times)
            lines.append(f"| {threads} | {name} | {shown} | {answers['batch_difference']:.2g} |")
    told = (
        f"ms a batch (how many times faster our int8 is); texts x tokens; {content['task']}'s dev texts one by one. "
        f"By batch: how far a logit moves when others share its batch. {content['environment']['cpu']}."
    )
    return "\n".join([*lines, "", told]) + "\n"


def ablation_rows(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line for each variant: averages over tasks and seeds in %, and points against `full`, here and in the paper."""
    paper = content["paper"]
    full = {(row["task"], row["seed"]): row["student"] for row in content["rows"] if row["variant"] == "full"}
    rows = [row for row in content["rows"] if (row["task"], row["seed"]) in full]
    lines = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        of_name = [row for row in rows if row["variant"] == name]
        lost = [row["student"] - full[row["task"], row["seed"]] for row in of_name]
        cells = [f"{mean(row[figure] for row in of_name):.1f}" for figure in ("start", "student", "retention")]
        known = f"{paper[name] - paper['full']:+.1f}" if name in paper else "-"
        lines.append((name, str(len(of_name)), *cells, _spread(lost, "+"), known))
    return lines


def ablations(content: dict[str, Any]) -> str:
    """What the parts of the distillation are worth."""
    rows, settings = content["rows"], content["settings"]
    tasks, seeds = (", ".join(str(one) for one in dict.fromkeys(row[key] for row in rows)) for key in ("task", "seed"))
    lines = [f"| {' | '.join(ABLATIONS_HEAD)} |", "|---|" + "--:|" * (len(ABLATIONS_HEAD) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in ablation_rows(content)]
    return "\n".join([*lines, "", f"{tasks}; seeds {seeds}; {settings['max_rows']:,} training rows."]) + "\n"


def augmentation(content: dict[str, Any]) -> str:
    """Speed of augmentation by a masked language model, a line for each way, and what the way does to candidates."""
    speed, agreed = content["speed"], content["agreement"]
    found = {(row["together"], row["precision"]): row for row in agreed["rows"]}
    lines = [
        "| together | precision | over one word per forward | candidates kept | log-probability |",
        "|--:|---|--:|--:|--:|",
    ]
    for row in speed["rows"]:
        same = found[row["together"], row["precision"]]
        lines.append(
            f"| {row['together']} | {row['precision']} | {row['cpu_ratio']:.1f}x "
            f"| {100 * same['same']:.1f} % | {same['log_probability']:.2f} |"
        )
    other, memory = agreed["of_another_word"], content.get("memory", [])
    peaks = ", ".join(f"{one['peak_mb']:,} MB for {one['rows']:,} rows" for one in memory)
    return "\n".join([
        *lines, "",
        f"Speed: {speed['model']}, {speed['sentences']} sentences, {speed['threads']} thread(s) of "
        f"{content['environment']['cpu']}, words per CPU second, median of {speed['repeats']} turns. Candidates: "
        f"{agreed['model']}, {agreed['words']} words, against float32 and one word masked; candidates of another word "
        f"instead: {100 * other['same']:.1f} % and {other['log_probability']:.2f}."
        + (f" Memory with GloVe alone, at its peak: {peaks}." if peaks else ""),
    ]) + "\n"  # fmt: skip


def step_speed(content: dict[str, Any]) -> str:
    """A step of stage a beside a plain rendition of the reference code's."""
    found = content["measured"]
    one = found[0]
    lines = [
        "| max_length | samples/s | tokens/s | plain rendition, samples/s | ratio [95 % interval] |",
        "|--:|--:|--:|--:|--:|",
        *(
            f"| {one['max_length']} | {one['samples_per_s']} | {one['tokens_per_s']:,} | {one['plain_samples_per_s']} "
            f"| {one['ratio']:.1f}x [{one['low']:.1f}, {one['high']:.1f}] |"
            for one in found
        ),
    ]
    told = (
        f"{one['data']}, {one['mean_tokens']} tokens a text; student {one['student']}; {one['precision']}; one process "
        f"with {one['threads']} thread(s), {one['device'].upper()}: {content['environment']['cpu']}."
    )
    return "\n".join([*lines, "", told]) + "\n"


def serving(load: dict[str, Any]) -> str:
    """Single texts over HTTP, a line for each server, and how many times its texts a second the best of ours took."""
    ratios = load["ratios"]
    lines = ["| server | texts/s | p50 ms | p99 ms | ours took |", "|---|--:|--:|--:|--:|"]
    for name, found in sorted(load["contenders"].items(), key=lambda one: -one[1]["texts_per_s"]):
        ratio = f"{ratios[name]['rate_ratio']:.2f}x" if name in ratios else "-"
        cells = f"{found['texts_per_s']:,.0f} | {found['p50_ms']:.1f} | {found['p99_ms']:.1f}"
        lines.append(f"| {name} | {cells} | {ratio} |")
    rounds = len(next(iter(load["contenders"].values()))["rounds"])
    cores = f"{load['environment']['logical_cores']} of {load['environment']['cpu']}"
    told = (
        f"{load['texts']:,} texts a round, {load['connections']} connections, medians of {rounds} interleaved rounds. "
        f"The load generator has the same cores, {cores}."
    )
    return "\n".join([*lines, "", told]) + "\n"


def promises(overload: dict[str, Any], chaos: dict[str, Any], flat: dict[str, Any], same: dict[str, Any]) -> str:
    """What the server does when it is asked too much, badly, for long, and at any concurrency."""
    answered, refused = (overload["statuses"].get(status, 0) for status in ("200", "429"))
    others = sum(overload["statuses"].values()) - answered - refused
    idle, ended, rows = overload["idle_first_answer_ms"], chaos["sigterm"], same["rows"]
    identical, asked = (sum(row[key] for row in rows) for key in ("identical", "texts"))
    return "\n".join([
        f"- {overload['times']} times what it takes, for {overload['seconds']:.0f} s: {answered:,} requests answered, "
        f"{refused:,} refused by 429, {others} others; p99 of the answers {overload['answered_p99_ms']:.0f} ms at a "
        f"deadline of {overload['timeout_ms']:,} ms; as before {overload['after']['seconds']:.1f} s later.",
        f"- Idle: a text of {idle['tokens']} tokens is answered in {idle['median']:.1f} ms.",
        f"- {chaos['requests']:,} good, broken, slow and vanishing requests: {chaos['fault_count']} faults, memory "
        f"{100 * chaos['growth']:+.1f} %; SIGTERM among {ended['asked']}: {ended['answered']} answered, exit code "
        f"{ended['exit_code']}.",
        f"- {flat['requests']:,} requests: memory {100 * flat['growth']:+.1f} %.",
        f"- Scores over {', '.join(str(row['connections']) for row in rows)} connections: {identical:,} "
        f"of {asked:,} are those of `toolkit predict` to the bit.",
    ]) + "\n"  # fmt: skip
