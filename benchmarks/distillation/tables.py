"""The tables of students and of their training, one function for each, from stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.tables import split_name, spread

ABLATIONS_HEAD = ("student", "runs", "before training", "trained", "kept", "against full", "the paper's")
BY_DEV = "were chosen by the dev rows that score them, before rows of train were held out for that."
LABELS_ALONE = "labels alone"  # in the name of a student's start
FRONT = {"teacher": "teacher", "words": "tf-idf", "labels": LABELS_ALONE, "student": "TinyBERT4", "int8": "its int8"}
COLUMNS = {
    "teacher": "teacher", "teacher_int8": "its int8", "words": "tf-idf", "random": f"random, {LABELS_ALONE}",
    "labels": LABELS_ALONE, "start": "student before training", "student": "student", "int8": "its int8",
}  # fmt: skip


def glue(rows: Sequence[dict[str, Any]]) -> str:
    """Write the fraction that students keep of their teachers, by the task's own metric, a row for each task."""
    lines = [
        "| task, split, metric | seeds | teacher | student before training | student | kept |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    retentions = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        cells = [spread([row[name] for row in of_task]) for name in ("teacher", "start", "student", "retention")]
        retentions.append(mean(row["retention"] for row in of_task))
        lines.append(f"| {_scored(of_task[0])} | {len(of_task)} | {' | '.join(cells)} % |")
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
        cells = [spread([row[name] for row in own]) for name in ("teacher", "start", "student")]
        scored = own[0].get("split", "dev, which chose the step")
        epochs = ", ".join(map(str, own[0]["epochs"]))
        kept = spread([100 * row["student"] / row["teacher"] for row in own])
        lines.append(f"| {init} | {scored} | {epochs} | {len(own)} | {' | '.join(cells)} | {kept} % |")
    first, (teacher, student) = rows[0], (rows[0]["shapes"][name] for name in ("teacher", "student"))
    note = (
        f"{first['task']}, {first['metric']}. Teacher {teacher['shape']}, "
        f"{teacher['parameters'] / 1e6:.1f}M parameters; student {student['shape']}, "
        f"{student['parameters'] / 1e6:.2f}M: {teacher['parameters'] / student['parameters']:.1f}x smaller."
    )
    return "\n".join([*lines, "", note]) + "\n"


def large_teacher(rows: Sequence[dict[str, Any]], paper: dict[str, Any]) -> str:
    """Say in README what students of a teacher of BERT-base's size keep on rows that chose nothing.

    Args:
        rows: of `scale`.
        paper: the report of `benchmarks.distillation.paper_size`; without runs the rows speak alone.
    """
    own = [row for row in rows if row.get("split") == "test" and LABELS_ALONE not in row["init"]]
    (teacher, student), runs = (own[0]["shapes"][name] for name in ("teacher", "student")), len(own)
    kept = spread([100 * row["student"] / row["teacher"] for row in own])
    text = (
        f"The teacher of these tables has 6 layers. From one of BERT-base's size ({teacher['shape']}) TinyBERT4, "
        f"{teacher['parameters'] / student['parameters']:.1f}x smaller, keeps {kept} % of its accuracy on test "
        f"({'one run' if runs == 1 else f'{runs} runs'}; [how](docs/distillation.md#a-teacher-of-bert-bases-size)).\n"
    )
    return text + ("\n" + _paper_size(paper, FRONT) if paper["runs"] else "")


def paper_size(report: dict[str, Any]) -> str:
    """Write the students of a 12-layer teacher beside what its user would do instead, a row for each task and start.

    Args:
        report: of `benchmarks.distillation.paper_size`.
    """
    return _paper_size(report, COLUMNS) if report["runs"] else "No run is stored yet.\n"


def _paper_size(report: dict[str, Any], columns: Mapping[str, str]) -> str:
    heads = " | ".join(("task, split, metric", "seeds", *columns.values(), "kept"))
    lines, rows = [f"| {heads} |", "|---|" + "--:|" * (len(columns) + 2)], report["runs"]
    for task, init in dict.fromkeys((row["task"], row["init"]) for row in rows):
        own = [row for row in rows if (row["task"], row["init"]) == (task, init)]
        cells = ["-" if own[0][name] is None else spread([row[name] for row in own]) for name in columns]
        name, kept = _scored(own[0]), spread([row["retention"] for row in own])
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} | {kept} % |")
    tasks = len({row["task"] for row in rows})
    note = (
        f"Mean over {tasks} tasks: {report['mean_kept']:.1f} % kept, {report['over_labels_alone']:+.1f} points "
        "more than the same start on labels alone."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _scored(row: dict[str, Any]) -> str:
    return f"{row['task']}, {split_name(row)}, {row['metric'].replace('_', ' ')}"


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
        lines.append((name, str(len(of_name)), *cells, spread(lost, "+"), published))
    return lines


def ablations(content: dict[str, Any]) -> str:
    """Write the effect of each part of the distillation."""
    rows, settings = content["rows"], content["settings"]
    tasks = ", ".join(dict.fromkeys(f"{row['task']} ({split_name(row)})" for row in rows))
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
