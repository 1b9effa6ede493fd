"""The calibration error of a student's scores before and after a temperature, over draws of rows that it never saw.

    python -m benchmarks.inference.calibration
    python -m benchmarks.inference.calibration --task cola --data FOLDER_OF_COLA

A teacher and its student are made from `--learnt` rows of train. All other rows of train, and test, are unseen: each of
`--draws` draws takes `--rows` of them to fit the temperature as `toolkit export` does, and the others tell the expected
calibration error. Finished steps are reused; a result replaces that of the same task in
benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import CALIBRATION
from export.pipeline import run_export
from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.config import DistillConfig, ExportConfig, FinetuneConfig
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.data.datasets import Split, load_split, load_test
from toolkit.distillation.distill import run_distill
from toolkit.inference.metrics import calibration_error, calibration_error_by_chance, confidences, reliability
from toolkit.inference.predictor import open_predictor
from toolkit.inference.temperature import fit_temperatures
from toolkit.tasks import Task, get_task
from toolkit.training.finetune import run_finetune

PRECISIONS = ("int8", "fp32")


def simulate(logits: np.ndarray, labels: np.ndarray, *, rows: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Fit a temperature on some rows and measure the error on the others, again and again.

    Args:
        logits, labels: [n, C] and [n] of all rows.
        rows: of a draw, that fit.
        draws, seed: how many, and of which random numbers.

    Returns:
        Means over the draws: "temperature"; "before" and "after", the expected calibration error; "chance", that of
        true probabilities on as many rows.
    """
    generator, kind = np.random.default_rng(seed), "classification"
    measured: list[tuple[float, ...]] = []
    for _ in range(draws):
        fitting, others = np.split(generator.permutation(len(labels)), [rows])
        temperature = float(fit_temperatures(logits[fitting], labels[fitting], kind)[0])
        answers = [confidences(logits[others] / divisor, labels[others], kind) for divisor in (1.0, temperature)]
        before, after = (calibration_error(reliability(*own)) for own in answers)
        measured.append((temperature, before, after, calibration_error_by_chance(answers[1][0])))
    means = np.mean(measured, axis=0).tolist()
    return dict(zip(("temperature", "before", "after", "chance"), means, strict=True))


def divide(task: Task, data: str | None, learnt: int, out: Path) -> Split:
    """Write `learnt` random rows of train, and dev, to `out`, and return all other labelled rows."""
    train, dev = (load_split(task, name, data) for name in ("train", "dev"))
    test = load_test(task, data)
    order = np.random.default_rng(7).permutation(len(train))
    out.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", train.take(np.sort(order[:learnt]))), ("dev", dev)):
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("text", "label"))
            table.writerows((text, task.labels[label]) for text, label in zip(split.texts, split.labels, strict=True))
    unseen = [train.take(np.sort(order[learnt:])), *([] if test is None else [test])]
    texts, labels = [text for split in unseen for text in split.texts], [split.labels for split in unseen]
    return Split(texts, None, np.concatenate(labels), "unseen")


def students(task: Task, data: Path, out: Path) -> dict[str, Bundle]:
    """Make the teacher, its student, and the student's exports, by precision."""
    folder = str(data)
    finetune = FinetuneConfig(str(builtin.minilm()), task.name, str(out / "teacher"), data=folder)
    teacher = run_or_reuse("teacher", finetune, run_finetune)
    distill = DistillConfig(str(teacher.path), task.name, str(out / "student"), data=folder)
    student = run_or_reuse("student", distill, run_distill, parent=teacher)
    return {
        precision: run_or_reuse(
            precision, ExportConfig(
                str(student.path), str(out / precision), data=folder, precision=precision, max_drop=100.0
            ), run_export, parent=student,
        )
        for precision in PRECISIONS
    }  # fmt: skip


def main() -> None:
    """Make the students, simulate the draws, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="rotten-tomatoes", help="a task of one text and classes")
    parser.add_argument("--data", help="folder of its data [default: the task's own]")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--learnt", type=int, default=3_000)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    task, out = get_task(arguments.task), arguments.out / arguments.task
    unseen = divide(task, arguments.data, arguments.learnt, out / "data")
    for precision, bundle in students(task, out / "data", out).items():
        model = open_predictor(bundle.path)
        logits = model.logits(model.encoder.encode(unseen.texts))
        result = simulate(logits, unseen.labels, rows=arguments.rows, draws=arguments.draws)
        store({
            "task": task.name, "precision": precision, "learnt": arguments.learnt, "rows": arguments.rows,
            "reported": len(unseen) - arguments.rows, "draws": arguments.draws, **result,
        })  # fmt: skip
    runs = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    columns = ("task", "precision", "temperature", "before", "after", "chance")
    cells = [(run["task"], run["precision"], *(f"{run[name]:.4f}" for name in columns[2:])) for run in runs]
    show_table("expected calibration error on unseen rows", columns, cells)


def store(run: dict[str, Any]) -> None:
    """Put a run into the stored results, in place of that of its task and precision."""
    stored = json.loads(CALIBRATION.read_text(encoding="utf-8")) if CALIBRATION.exists() else []
    runs = {(entry["task"], entry["precision"]): entry for entry in (*stored, run)}
    CALIBRATION.write_text(json.dumps(list(runs.values()), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
