"""The demo's teacher, student and int8 export with several seeds: how much of a result is luck.

    python benchmarks/seeds.py --seeds 1 2 --include runs/demo --out runs/seeds

Resumable: a seed's steps that are there already are kept; a finished demo counts as its own seed. The export's gate on
the metric is left open here, so that a drop it would refuse is a figure too. Writes benchmarks/results/seeds.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from export.pipeline import run_export
from toolkit.bundle import Bundle, open_bundle
from toolkit.config import DemoConfig, ExportConfig
from toolkit.console import show_table
from toolkit.demo import Plan, step, write_unlabelled
from toolkit.distill import run_distill
from toolkit.finetune import run_finetune

RESULTS = Path(__file__).parent / "results" / "seeds.json"
NAMES = ("teacher", "start", "student", "retention", "int8", "drop")


def run_seed(seed: int, out: Path) -> dict[str, Any]:
    """Make one seed's bundles, as the demo does, and read their figures."""
    plan = Plan.of(DemoConfig(str(out / str(seed)), seed=seed))
    teacher = step(f"seed {seed}: teacher", plan.finetune, run_finetune)
    write_unlabelled(plan, seed)
    student = step(f"seed {seed}: student", plan.distill, run_distill, parent=teacher)
    int8 = step(f"seed {seed}: int8", replace(plan.export, max_drop=100.0), run_export, parent=student)
    return figures(teacher, student, int8)


def figures(teacher: Bundle, student: Bundle, int8: Bundle) -> dict[str, Any]:
    """Dev accuracies in %, that of the student before training, the share kept, and the points int8 lost."""
    row = {
        name: 100 * bundle.manifest["metrics"]["accuracy"]
        for name, bundle in (("teacher", teacher), ("student", student), ("int8", int8))
    }
    row["start"] = 100 * student.manifest["start_metrics"]["accuracy"]
    row["retention"] = 100 * row["student"] / row["teacher"]
    row["drop"] = row["student"] - row["int8"]
    return {"seed": student.manifest["seed"], **row}


def main() -> None:
    """Run the seeds, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--include", type=Path, nargs="*", default=[], help="finished demos")
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    bundles = ("teacher", "student", "int8")
    rows = [figures(*(open_bundle(run / name) for name in bundles)) for run in arguments.include]
    rows += [run_seed(seed, arguments.out) for seed in arguments.seeds]
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    table = [(str(row["seed"]), *(f"{row[name]:.2f}" for name in NAMES)) for row in rows]
    if len(rows) > 1:
        spread = [(mean(row[name] for row in rows), stdev(row[name] for row in rows)) for name in NAMES]
        table.append(("mean +- s.d.", *(f"{m:.2f} +- {s:.2f}" for m, s in spread)))
    show_table("rotten-tomatoes, dev accuracy %", ("seed", *NAMES), table)
    over = [row["seed"] for row in rows if row["drop"] > ExportConfig.max_drop]
    print(f"seeds that the export's default gate of {ExportConfig.max_drop} points would refuse: {over or 'none'}")


if __name__ == "__main__":
    main()
