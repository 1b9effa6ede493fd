"""TinyBERT4 of a 12-layer teacher on six tasks, beside what its user would do instead with the same rows: resumable.

    python -m benchmarks.distillation.paper_size --encoder MPNET --data ../shared/data/glue --out runs/paper

For each task and seed the encoder is fine-tuned, and from this teacher come:

- the student: `toolkit distill` with the epochs of RECIPES, `--unlabelled` IMDb sentences for tasks about films, the
  augmentation of GloVe where RECIPES has copies, and its int8 export;
- labels alone: the same start, no teacher after it, as many epochs in all; and the same from random weights;
- the teacher's int8 export, and logistic regression on tf-idf.

`--init` names a small encoder that the students start from, see `toolkit distill --help`; `--assistant` names one that
is fine-tuned on the task before it is their start. Rows of train choose the steps and the official dev is reported;
Rotten Tomatoes has a test split. Finished steps are reused. A result replaces that of the same task, seed and start in
benchmarks/results/paper_size.json, so tasks may be run by separate commands.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.distillation.glue import FOLDERS, TASKS, Recipe
from benchmarks.distillation.tables import COLUMNS
from benchmarks.paths import PAPER_SIZE
from export.pipeline import run_export
from toolkit.augmentation.augment import run_augment
from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.config import AugmentConfig, DistillConfig, ExportConfig, FinetuneConfig
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.data.splits import load_splits
from toolkit.distillation.distill import run_distill
from toolkit.files import atomic_file
from toolkit.training.finetune import run_finetune
from toolkit.training.reference import word_score

# shorter than the paper's, so that two cores finish
RECIPES = {
    "rotten-tomatoes": Recipe(1, 1, 4),
    "sst2": Recipe(1, 1, 3, max_rows=20_000),
    "mrpc": Recipe(3, 3, 3, copies=1),
    "rte": Recipe(4, 3, 3, copies=1),
    "cola": Recipe(3, 4, 4),
    "stsb": Recipe(3, 3, 3, copies=1),
}
FILMS = ("rotten-tomatoes", "sst2")
ASSISTANT = "assistant"
PREDICTION_LR = 1e-4  # of students and of labels alone, as in docs/distillation.md
LABELS_ALONE = "attention=0,hidden=0,embedding=0,prediction=0,label=1"


@dataclass(frozen=True)
class Runs:
    """The steps of one task and seed, in a folder of their own; each is reused once it is there.

    Attributes:
        task, seed: of all steps.
        encoder: that the teacher is made from.
        init: start of the students, as `toolkit distill --init` takes it.
        assistant: encoder that is fine-tuned to be their start instead; None for none.
        data: folder of FOLDERS.
        out: folder of the bundles.
        sentences: IMDb sentences for the tasks of FILMS.
        shape: of the students.
    """

    task: str
    seed: int
    encoder: Path
    init: str
    data: Path
    out: Path
    sentences: int
    shape: str = DistillConfig.student
    assistant: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """Epochs, rows and copies of the task."""
        return RECIPES[self.task]

    @property
    def rows(self) -> str | None:
        """The folder of the task's rows; None for the embedded task."""
        return str(self.data / FOLDERS[self.task]) if self.task in FOLDERS else None

    def teacher(self) -> Bundle:
        """Fine-tune the encoder."""
        return self._finetuned(self.encoder, "teacher")

    def start(self) -> str:
        """Give what the students start from."""
        return self.init if self.assistant is None else str(self._finetuned(self.assistant, ASSISTANT).path)

    def student(self, teacher: Bundle, start: str) -> Bundle:
        """Distil the teacher."""
        recipe = self.recipe
        config = self._distill(teacher, "student", start)
        config = replace(
            config, intermediate_epochs=recipe.intermediate_epochs, prediction_epochs=recipe.prediction_epochs
        )
        if self.task in FILMS:
            config = replace(config, unlabelled=str(self._sentences()))
        if recipe.copies:
            config = replace(config, augment=str(self._augmented()))
        return run_or_reuse(self._title("student"), config, run_distill, parent=teacher)

    def labels_alone(self, teacher: Bundle, name: str, init: str) -> Bundle:
        """Train the student on the labels of the same rows, without its teacher's answers, for as many epochs."""
        epochs = self.recipe.intermediate_epochs + self.recipe.prediction_epochs
        config = self._distill(teacher, name, init)
        config = replace(config, loss=LABELS_ALONE, intermediate_epochs=0, prediction_epochs=epochs)
        return run_or_reuse(self._title(f"labels alone, {name}"), config, run_distill, parent=teacher)

    def int8(self, source: Bundle) -> Bundle:
        """Export to int8, whatever is lost by it."""
        out = source.path.with_name(f"{source.path.name}-int8")
        config = ExportConfig(str(source.path), str(out), data=self.rows, max_drop=100.0)
        return run_or_reuse(self._title(out.name), config, run_export, parent=source)

    def words(self, teacher: Bundle) -> float | None:
        """Score logistic regression on tf-idf of the same rows."""
        task, most = teacher.task, self.recipe.max_rows
        splits = load_splits(task, self.rows, selection_rows=None, max_rows=most, seed=self.seed)
        return word_score(task, splits.learnt, splits.scored[teacher.split])

    def row(self) -> dict[str, Any]:
        """Run every step and gather the task's metric in %."""
        teacher, start = self.teacher(), self.start()
        student = self.student(teacher, start)
        metric = student.task.metric
        bundles = {
            "teacher": teacher, "teacher_int8": self.int8(teacher), "student": student, "int8": self.int8(student),
            "labels": self.labels_alone(teacher, "labels", start),
            "random": self.labels_alone(teacher, "random", "random"),
        }  # fmt: skip
        scores = {name: 100 * bundle.metrics[metric] for name, bundle in bundles.items()}
        scores["start"] = 100 * student.manifest["start_metrics"][metric]
        words = self.words(teacher)
        return {
            "task": self.task, "seed": self.seed, "metric": metric, "split": student.split,
            "init": Path(start).name, "digest": student.digest,
            **scores, "words": None if words is None else 100 * words,
            "retention": 100 * scores["student"] / scores["teacher"],
            "seconds": {name: stage["seconds"] for name, stage in student.manifest["stages"].items()},
        }  # fmt: skip

    def _finetuned(self, encoder: Path, name: str) -> Bundle:
        recipe = self.recipe
        config = FinetuneConfig(
            str(encoder), self.task, str(self.out / name), data=self.rows, epochs=recipe.teacher_epochs,
            lr=recipe.teacher_lr, max_rows=recipe.max_rows, seed=self.seed,
        )  # fmt: skip
        return run_or_reuse(self._title(name), config, run_finetune)

    def _distill(self, teacher: Bundle, name: str, init: str) -> DistillConfig:
        return DistillConfig(
            str(teacher.path), self.task, str(self.out / name), data=self.rows, max_rows=self.recipe.max_rows,
            seed=self.seed, init=init, student=self.shape, prediction_lr=PREDICTION_LR,
        )  # fmt: skip

    def _sentences(self) -> Path:
        path = self.out / "imdb.txt"
        if not path.exists():
            with atomic_file(path) as partial:
                lines = builtin.imdb_sentences(self.sentences, self.seed)
                partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def _augmented(self) -> Path:
        path = self.out / "augmented.parquet"
        if not path.exists():
            run_augment(AugmentConfig(self.task, str(path), data=self.rows, copies=self.recipe.copies, seed=self.seed))
        return path

    def _title(self, step: str) -> str:
        return f"{self.task}, seed {self.seed}: {step}"


def store(row: dict[str, Any]) -> dict[str, Any]:
    """Put a row into the stored results and return them, with their means over the tasks."""
    stored = json.loads(PAPER_SIZE.read_text(encoding="utf-8"))["runs"] if PAPER_SIZE.exists() else []
    rows = {(entry["task"], entry["init"], entry["seed"]): entry for entry in (*stored, row)}
    ordered = sorted(rows.values(), key=lambda entry: (TASKS.index(entry["task"]), entry["init"], entry["seed"]))
    report = {"runs": ordered, **means(ordered)}
    PAPER_SIZE.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Average over the tasks: what the students keep in %, and the points by which they are above labels alone."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    of_task = {task: [row for row in rows if row["task"] == task] for task in tasks}
    kept = [mean(row["retention"] for row in of) for of in of_task.values()]
    gained = [mean(row["student"] - row["labels"] for row in of) for of in of_task.values()]
    return {"mean_kept": mean(kept), "over_labels_alone": mean(gained)}


def main() -> None:
    """Run the tasks, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, required=True, help="encoder of 12 layers, such as all-mpnet-base-v2")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--init", default="teacher", help="start of the students [default: teacher]")
    start.add_argument("--assistant", type=Path, help="small encoder that is fine-tuned to be their start")
    parser.add_argument("--data", type=Path, required=True, help="folder with GLUE's folders")
    parser.add_argument("--tasks", nargs="+", default=tuple(RECIPES), choices=tuple(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--sentences", type=int, default=60_000, help="IMDb sentences for tasks about films")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for task in arguments.tasks:
            folder = arguments.out / task / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            runs = Runs(
                task, seed, arguments.encoder, arguments.init, arguments.data, folder, arguments.sentences,
                assistant=arguments.assistant,
            )  # fmt: skip
            report = store(runs.row())
    columns = ("task", "start", "seed", *COLUMNS, "kept")
    show_table(
        f"%; {report['mean_kept']:.1f} % kept, {report['over_labels_alone']:+.1f} points over labels alone", columns,
        [_cells(row) for row in report["runs"]],
    )  # fmt: skip


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    scores = ("-" if row[name] is None else f"{row[name]:.2f}" for name in COLUMNS)
    return (row["task"], row["init"], str(row["seed"]), *scores, f"{row['retention']:.1f}")


if __name__ == "__main__":
    main()
