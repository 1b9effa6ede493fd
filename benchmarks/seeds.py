"""The demo's teacher, student and int8 export with several seeds: how much of a result is luck.

    python benchmarks/seeds.py --seeds 1 2 3 --out runs/seeds

Resumable: a seed's steps that are there already are kept. Writes benchmarks/results/seeds.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev

from export.pipeline import run_export
from toolkit.config import DemoConfig
from toolkit.console import show_table
from toolkit.demo import Plan, step, write_unlabelled
from toolkit.distill import run_distill
from toolkit.errors import GateError
from toolkit.finetune import run_finetune

RESULTS = Path(__file__).parent / "results" / "seeds.json"


def run_seed(seed: int, out: Path) -> dict[str, float]:
    """Dev accuracies in % of one seed's bundles, and the zero-training one of the student's start."""
    plan = Plan.of(DemoConfig(str(out / str(seed)), seed=seed))
    teacher = step(f"seed {seed}: teacher", plan.finetune, run_finetune)
    write_unlabelled(plan, seed)
    student = step(f"seed {seed}: student", plan.distill, run_distill, parent=teacher)
    int8 = step(f"seed {seed}: int8", plan.export, run_export, parent=student)
    found = {"teacher": teacher, "student": student, "int8": int8}
    row = {name: 100 * bundle.manifest["metrics"]["accuracy"] for name, bundle in found.items()}
    row["start"] = 100 * student.manifest["start_metrics"]["accuracy"]
    row["retention"] = 100 * row["student"] / row["teacher"]
    return {"seed": seed, **row}


def main() -> None:
    """Run the seeds, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        try:
            rows.append(run_seed(seed, arguments.out))
        except GateError as error:  # a seed whose export misses its gate is a result too
            print(f"seed {seed}: {error}", file=sys.stderr)
            rows.append({"seed": seed, "gate_missed": str(error.problem)})
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    whole = [row for row in rows if "gate_missed" not in row]
    names = ("teacher", "start", "student", "retention", "int8")
    table = [(str(row["seed"]), *(f"{row[name]:.2f}" for name in names)) for row in whole]
    if len(whole) > 1:
        spread = [(mean(row[name] for row in whole), stdev(row[name] for row in whole)) for name in names]
        table.append(("mean +- s.d.", *(f"{m:.2f} +- {s:.2f}" for m, s in spread)))
    show_table("rotten-tomatoes, dev accuracy %", ("seed", *names), table)


if __name__ == "__main__":
    main()
