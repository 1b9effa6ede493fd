"""Teachers and students of GLUE tasks and Rotten Tomatoes, and their metrics: one command, resumable.

    python -m benchmarks.distillation.glue --data ../shared/data/glue --tasks mrpc cola --seeds 42 --out runs/glue

The teacher is all-MiniLM-L6-v2 (extra `demo`), fine-tuned on each task; the student is tinybert4. `--data` holds the
folders of the official TSV files (MRPC, CoLA, SST-2, STS-B, RTE). RECIPES below are shorter than the paper's schedules,
so that two cores finish. Rows of train choose the steps and the official dev is reported; Rotten Tomatoes has a test
split. Finished steps are reused. Each result replaces that of the same task and seed in benchmarks/results/glue.json,
so tasks and seeds may be run by separate commands.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.paths import GLUE
from toolkit.augmentation.augment import run_augment
from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.config import AugmentConfig, DemoConfig, DistillConfig, FinetuneConfig
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.distillation.distill import run_distill
from toolkit.distillation.seeds import summarize
from toolkit.training.finetune import run_finetune

FOLDERS = {"mrpc": "MRPC", "cola": "CoLA", "sst2": "SST-2", "stsb": "STS-B", "rte": "RTE"}
METRICS = ("teacher", "start", "student", "retention")


@dataclass(frozen=True)
class Recipe:
    """The epochs and rows of a task; `copies` is the number of GloVe augmentations of each row.

    `teacher_lr` None is that of `toolkit finetune`.
    """

    teacher_epochs: int
    intermediate_epochs: int
    prediction_epochs: int
    copies: int = 0
    max_rows: int | None = None
    teacher_lr: float | None = None


RECIPES = {
    "mrpc": Recipe(4, 3, 1, copies=1),
    "cola": Recipe(4, 8, 3),
    "sst2": Recipe(2, 3, 2, max_rows=20_000),
    "stsb": Recipe(3, 2, 1, copies=1),
    "rte": Recipe(4, 3, 3, copies=1),
}
TASKS = ("rotten-tomatoes", *RECIPES)


def run_task(
    task: str, data: Path, seed: int, out: Path, *, encoder: Path | None = None, recipe: Recipe | None = None,
    student: str = DistillConfig.student,
) -> Bundle:  # fmt: skip
    """Train a task's teacher and student with a seed, and return the student.

    Args:
        task: one of TASKS; the rest of the arguments is not for rotten-tomatoes, which is learnt as the demo does.
        data: folder of FOLDERS.
        seed: of both trainings.
        out: folder of the bundles, by task and seed.
        encoder: that the teacher is made from; None takes MiniLM.
        recipe: None takes that of RECIPES.
        student: its shape.
    """
    title, folder = f"{task}, seed {seed}", out / task / str(seed)
    if task == "rotten-tomatoes":
        from toolkit.cli.demo import Plan, write_unlabelled

        plan = Plan.of(DemoConfig(str(folder), seed=seed))
        teacher = run_or_reuse(f"{title}: teacher", plan.finetune, run_finetune)
        write_unlabelled(plan, seed)
        return run_or_reuse(f"{title}: student", plan.distill, run_distill, parent=teacher)
    recipe = recipe or RECIPES[task]
    rows = str(data / FOLDERS[task])
    finetune = FinetuneConfig(
        str(encoder or builtin.minilm()), task, str(folder / "teacher"), data=rows, epochs=recipe.teacher_epochs,
        lr=recipe.teacher_lr, max_rows=recipe.max_rows, seed=seed,
    )  # fmt: skip
    teacher = run_or_reuse(f"{title}: teacher", finetune, run_finetune)
    distill = DistillConfig(
        str(folder / "teacher"), task, str(folder / "student"), data=rows, max_rows=recipe.max_rows, seed=seed,
        intermediate_epochs=recipe.intermediate_epochs, prediction_epochs=recipe.prediction_epochs, student=student,
    )  # fmt: skip
    if recipe.copies:
        augmented = folder / "augmented.parquet"
        if not augmented.exists():
            run_augment(AugmentConfig(task, str(augmented), data=rows, copies=recipe.copies, seed=seed))
        distill = replace(distill, augment=str(augmented))
    return run_or_reuse(f"{title}: student", distill, run_distill, parent=teacher)


def metrics(student: Bundle) -> dict[str, Any]:
    """Return the task's metric in %: teacher, student before and after training, and the fraction kept."""
    summary = summarize([student])
    names = {name: summary[name] for name in ("task", "metric", "split")}
    return {**names, "selection": student.manifest["selection"], **summary["seeds"][0]}


def store(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Put a row into the stored results and return all rows, by task and seed.

    Rows of its task that do not name their split are dropped: the rows that score them chose their steps.
    """
    stored = json.loads(GLUE.read_text(encoding="utf-8")) if GLUE.exists() else []
    stored = [entry for entry in stored if entry["task"] != row["task"] or "split" in entry]
    rows = {(entry["task"], entry["seed"]): entry for entry in (*stored, row)}
    ordered = sorted(rows.values(), key=lambda entry: (TASKS.index(entry["task"]), entry["seed"]))
    GLUE.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    return ordered


def main() -> None:
    """Run the tasks, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with GLUE's folders")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--out", type=Path, default=Path("runs/glue"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for task in arguments.tasks:
            rows = store(metrics(run_task(task, arguments.data, seed, arguments.out)))
    table = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        cells = [_spread([row[name] for row in of_task]) for name in METRICS]
        table.append((task, f"{of_task[0].get('split', 'dev')} {of_task[0]['metric']}", str(len(of_task)), *cells))
    show_table("%", ("task", "metric", "seeds", *METRICS), table)
    print(f"mean kept: {mean(row['retention'] for row in rows):.2f} %")


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
