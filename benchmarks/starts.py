"""The table of docs/distillation.md that says which start keeps how much, and how long a distillation takes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from benchmarks.distillation.tables import LABELS_ALONE

# variants of the ablations by their --init
VARIANTS = {
    "no augmentation": "teacher", "init general from teacher": "`--general`, from the teacher",
    "init general": "`--general`, from random", "init random": "random",
}  # fmt: skip
STAGES = (
    ("stage a, intermediate", "an epoch of stage a"), ("the teacher's answers", "the teacher's answers"),
    ("stage b, prediction", "an epoch of stage b"),
)  # fmt: skip


def starts(
    glue: Sequence[dict[str, Any]], ablations: dict[str, Any], scale: Sequence[dict[str, Any]], demo: dict[str, Any]
) -> str:
    """Write what each start keeps of its teacher before and after training, and the minutes of 10,000 texts.

    Args:
        glue, ablations, scale: rows of the GLUE, ablation and scale results, in % of the task's metric.
        demo: its distillation's seconds by phase.
    """
    lines = ["| teacher; rows | `--init` | kept before training | kept |", "|---|---|--:|--:|"]
    tasks = len({row["task"] for row in glue})
    lines.append(_row(f"6/384; {tasks} tasks", "teacher", glue))
    for init in dict.fromkeys(row["init"] for row in scale):
        rows = [row for row in scale if row["init"] == init]
        shape = "/".join(rows[0]["shapes"]["teacher"]["shape"].split("/")[:2])
        more = "" if LABELS_ALONE in init else ", and more text of its kind"
        lines.append(_row(f"{shape}; {rows[0]['task']}{more}", init, rows))
    few = f"{ablations['settings']['max_rows']:,}"
    for variant, init in VARIANTS.items():
        rows = [row for row in ablations["rows"] if row["variant"] == variant and row["task"] == "rotten-tomatoes"]
        lines.append(_row(f"6/384; {few} rows of rotten-tomatoes", init, rows))
    return "\n".join([*lines, "", _minutes(demo)]) + "\n"


def _row(what: str, init: str, rows: Sequence[dict[str, Any]]) -> str:
    """Average over the runs of each task, then over the tasks."""
    cells = []
    for name in ("start", "student"):
        of_task = [
            mean(100 * row[name] / row["teacher"] for row in rows if row["task"] == task)
            for task in dict.fromkeys(row["task"] for row in rows)
        ]
        cells.append(f"{mean(of_task):.1f} %")
    return f"| {what} | {init} | {' | '.join(cells)} |"


def _minutes(demo: dict[str, Any]) -> str:
    distillation = demo["distillation"]
    texts, seconds = distillation["texts"], distillation["seconds"]
    epochs = {"stage a, intermediate": distillation["epochs"][0], "stage b, prediction": distillation["epochs"][1]}
    parts = [
        f"{seconds[phase] / 60 / epochs.get(phase, 1) / texts * 10_000:.1f} for {what}"
        for phase, what in STAGES
        if phase in seconds
    ]
    teacher, student = ("/".join(distillation["shapes"][name].split("/")[:2]) for name in ("teacher", "student"))
    return (
        f"Minutes for 10,000 texts of {distillation['tokens'] / texts:.0f} tokens, from {teacher} to {student} on "
        f"{demo['threads']} threads of {demo['environment']['cpu']} (`make demo`): {', '.join(parts)}. "
        f"The start takes {seconds['starting the student'] / 60:.1f} minutes, whatever the rows."
    )
