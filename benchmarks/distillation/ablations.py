"""Ablations: students without one part of the distillation each, on few rows of two tasks.

    python -m benchmarks.distillation.ablations --data ../shared/data/glue \
        --corpus ../shared/data/corpus/public_domain.txt --seeds 1 2 3 --out runs/ablations

The teacher is all-MiniLM-L6-v2 (extra `demo`), fine-tuned on the whole task, and the same for every variant. The
student is trained on `--max-rows` rows, less those that choose the step, and `--copies` GloVe copies of each. Without
copies it takes more epochs over as many rows, for the same number of steps. The base is `full`: `--init teacher`, every
loss, layer map uniform. The `short` variants start in different ways and pass over the plain rows once in each stage;
their column `start` compares the starts before any training. Finished steps are reused by the same command. Each run
replaces that of the same task, seed and variant in benchmarks/results/ablations.json, so runs may be made by separate
commands.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.distillation.glue import FOLDERS
from benchmarks.distillation.tables import ABLATIONS_HEAD, ablation_rows
from benchmarks.paths import ABLATIONS
from toolkit.augmentation.augment import run_augment
from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.bundle.scores import split_of
from toolkit.config import AugmentConfig, DistillConfig, FinetuneConfig
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.data.datasets import sample_numbers
from toolkit.data.splits import load_splits
from toolkit.distillation.distill import run_distill
from toolkit.distillation.general import run_general
from toolkit.tasks import get_task
from toolkit.training.finetune import run_finetune

TEACHER_EPOCHS = {"rotten-tomatoes": 2, "sst2": 2}
# The paper's averages over MNLI-m, MNLI-mm, MRPC and CoLA (tables 2 and 3), for comparing the order of effects.
PAPER = {
    "full": 75.6, "no attention": 71.0, "no hidden": 72.9, "no embedding": 74.1, "no prediction": 73.5,
    "no intermediate stage": 56.3, "no augmentation": 68.4, "init random": 72.5,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no attention": {"loss": "attention=0"},
    "no hidden": {"loss": "hidden=0"},
    "no embedding": {"loss": "embedding=0"},
    "no prediction": {},  # a second run has the data's labels instead: the copies have none
    "no intermediate stage": {"intermediate_epochs": 0},
    "no augmentation": {"augment": None},
    "init random": {"init": "random", "intermediate_lr": 2e-4},
    "init general": {"init": "general", "intermediate_lr": 2e-4},
    "init general from teacher": {"init": "general-teacher", "intermediate_lr": 2e-4},
    "map top": {"layer_map": "top"},
    "map bottom": {"layer_map": "bottom"},
    "relations": {"objective": "relations"},
    "short: init teacher": {"short": True},
    "short: init random": {"short": True, "init": "random", "intermediate_lr": 2e-4},
    "short: init general": {"short": True, "init": "general", "intermediate_lr": 2e-4},
    "short: init general from teacher": {"short": True, "init": "general-teacher", "intermediate_lr": 2e-4},
}


def general_student(options: argparse.Namespace, init: str) -> Path:
    """Distil a student from the encoder itself on plain text, and return its folder."""
    name = "general-teacher" if init == "teacher" else "general"
    config = DistillConfig(
        str(builtin.minilm()), None, str(options.out / name), general=True, corpus=(str(options.corpus),), init=init,
        student=options.student, max_rows=options.general_rows, intermediate_epochs=options.general_epochs,
        intermediate_lr=2e-4, accumulation=1,
    )  # fmt: skip
    return run_or_reuse(f"general distillation, init {init}", config, run_general).path


def run_variant(options: argparse.Namespace, task: str, seed: int, name: str, teacher: Bundle) -> dict[str, Any]:
    """Train the student of a variant and return its metrics."""
    folder, data = options.out / task / str(seed), _data(options, task)
    augmented = folder / "augmented.parquet"
    if options.copies and not augmented.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run_augment(
            AugmentConfig(task, str(augmented), data=data, copies=options.copies, max_rows=options.max_rows, seed=seed)
        )
    base = DistillConfig(
        str(teacher.path), task, str(folder / name.replace(" ", "-").replace(":", "")), data=data,
        student=options.student, seed=seed, augment=str(augmented) if options.copies else None,
        max_rows=None if options.copies else options.max_rows, intermediate_epochs=options.epochs, prediction_epochs=1,
    )  # fmt: skip
    changes = dict(VARIANTS[name])
    short = changes.pop("short", False)
    if changes.get("init", "").startswith("general"):
        start = "teacher" if changes["init"].endswith("teacher") else "random"
        changes["init"] = str(general_student(options, start))
    plain_rows = _plain_rows(options, task, seed)
    if short or ("augment" in changes and options.copies):  # as many steps on plain rows as with the copies
        times = 1 if short else options.copies + 1
        epochs = 1 if short else options.epochs
        changes |= {
            "augment": None, "max_rows": plain_rows, "intermediate_epochs": epochs * times, "prediction_epochs": times,
        }  # fmt: skip
    config = replace(base, **changes)
    title = f"{task}, seed {seed}: {name}"
    if name == "no prediction":
        return _labels_instead(config, title, options, plain_rows, teacher)
    return metrics(run_or_reuse(title, config, run_distill, parent=teacher), name)


def _plain_rows(options: argparse.Namespace, task: str, seed: int) -> int:
    """Count the rows that are learnt from with their copies: those that choose the step are not."""
    if not options.copies:
        return int(options.max_rows)
    splits = load_splits(get_task(task), _data(options, task), selection_rows=None, max_rows=None, seed=seed)
    return len(set(sample_numbers(len(splits.train), options.max_rows, seed).tolist()) - set(splits.drawn.tolist()))


def _labels_instead(
    config: DistillConfig, title: str, options: argparse.Namespace, plain_rows: int, teacher: Bundle
) -> dict[str, Any]:
    """Run stage a on the copies, then stage b on the plain rows with their labels, for as many steps."""
    first = run_or_reuse(
        f"{title}, stage a", replace(config, out=f"{config.out}-a", prediction_epochs=0), run_distill, parent=teacher
    )
    second = replace(
        config, init=f"{config.out}-a", augment=None, max_rows=plain_rows, intermediate_epochs=0,
        objective="prediction", loss="prediction=0,label=1", prediction_epochs=options.copies + 1,
    )  # fmt: skip
    student = run_or_reuse(f"{title}, stage b", second, run_distill, parent=teacher)
    return metrics(student, "no prediction") | {"start": metrics(first, "no prediction")["start"]}


def metrics(student: Bundle, name: str) -> dict[str, Any]:
    """Return the task's metric in %: of the teacher, and of the student before and after training."""
    metric, manifest = student.task.metric, student.manifest
    teacher, start, end = (100 * manifest[key][metric] for key in ("teacher_metrics", "start_metrics", "metrics"))
    return {
        "variant": name, "task": student.task.name, "metric": metric, "split": split_of(manifest),
        "seed": manifest["seed"], "teacher": teacher, "start": start, "student": end,
        "retention": 100 * end / teacher if teacher > 0 else 0.0,
        "steps": {name: stage["steps"] for name, stage in manifest["stages"].items()},
    }  # fmt: skip


def store(row: dict[str, Any], settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Put a row into the stored results and return all; rows of other settings are dropped."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"settings": None}
    stored_rows = stored["rows"] if stored["settings"] == settings else []
    rows = {
        (entry["seed"], entry["task"], list(VARIANTS).index(entry["variant"])): entry for entry in (*stored_rows, row)
    }
    content = {"settings": settings, "paper": PAPER, "rows": [rows[key] for key in sorted(rows)]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def _data(options: argparse.Namespace, task: str) -> str | None:
    return None if task == "rotten-tomatoes" else str(options.data / FOLDERS[task])


def _teacher(options: argparse.Namespace, task: str) -> Bundle:
    config = FinetuneConfig(
        str(builtin.minilm()), task, str(options.out / task / "teacher"), data=_data(options, task),
        epochs=TEACHER_EPOCHS.get(task, 4), max_rows=options.teacher_rows,
    )  # fmt: skip
    return run_or_reuse(f"{task}: teacher", config, run_finetune)


def main() -> None:
    """Run the variants, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with GLUE's folders, for tasks of GLUE")
    parser.add_argument("--corpus", type=Path, required=True, help="plain text for general distillation")
    parser.add_argument("--tasks", nargs="*", default=["rotten-tomatoes", "mrpc"])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--max-rows", type=int, default=2000, help="training rows of the student, before copies")
    parser.add_argument("--teacher-rows", type=int, help="training rows of the teacher [default: all]")
    parser.add_argument("--copies", type=int, default=3, help="augmented copies of each row; 0 for none")
    parser.add_argument("--epochs", type=int, default=2, help="of stage a, over the rows and their copies")
    parser.add_argument("--general-rows", type=int, default=8000, help="rows of 128 tokens of the corpus")
    parser.add_argument("--general-epochs", type=int, default=1)
    parser.add_argument("--student", default="tinybert4")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--results", type=Path, default=ABLATIONS)
    options = parser.parse_args()
    apart = ("data", "corpus", "out", "results", "tasks", "seeds", "variants")
    settings = {name: value for name, value in vars(options).items() if name not in apart} | {"selection": "held out"}
    teachers = {task: _teacher(options, task) for task in options.tasks}
    for seed in options.seeds:
        for task in options.tasks:
            for name in options.variants:
                content = store(run_variant(options, task, seed, name, teachers[task]), settings, options.results)
    show_table(f"{options.max_rows} rows, %", ABLATIONS_HEAD, ablation_rows(content))


if __name__ == "__main__":
    main()
