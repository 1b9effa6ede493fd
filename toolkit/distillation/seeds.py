"""`toolkit distill --seeds`: one student a seed, and the mean and deviation of their metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from toolkit.bundle.format import Bundle, check_output_path, is_bundle, open_bundle
from toolkit.bundle.provenance import run_or_reuse
from toolkit.config import DistillConfig
from toolkit.console import echo, show_table
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, canonical_json
from toolkit.training.distributed import distributed_state

FIGURES = ("teacher", "start", "student", "retention")
SEED_FILES = ("seed-", "summary.json")  # with a dot before them while they are written


def run_seeds(config: DistillConfig) -> dict[str, Any]:
    """A student for each of `config.seeds` in OUT/seed-N, those that are there kept, and OUT/summary.json.

    Raises:
        ToolkitError: as `run_distill`; OUT is something else, or seeds that learnt from different data.
    """
    config.check()
    out = Path(config.out)
    _check_folder(out)
    seeds = list(dict.fromkeys(map(int, str(config.seeds).split(","))))
    parent = open_bundle(config.teacher) if is_bundle(Path(config.teacher)) else None
    configs = [replace(config, seed=seed, seeds=None, out=str(out / f"seed-{seed}")) for seed in seeds]
    bundles = [run_or_reuse(f"seed {config.seed}", config, run_distill, parent) for config in configs]
    if len({json.dumps(bundle.manifest["data"], sort_keys=True) for bundle in bundles}) > 1:
        raise ToolkitError(f"the seeds in {out} learnt from different data", fix=f"remove {out} and run again")
    summary = summarize(bundles)
    if distributed_state().is_main_process:
        with atomic_file(out / "summary.json") as partial:
            partial.write_bytes(canonical_json(summary))
    metric = summary["metric"]
    rows = [[str(one["seed"]), *(f"{one[name]:.2f}" for name in FIGURES)] for one in summary["seeds"]]
    rows.append(["mean", *(f"{summary['mean'][name]:.2f}" for name in FIGURES)])
    rows.append(["deviation", *(f"{summary['deviation'][name]:.2f}" for name in FIGURES)])
    show_table(f"{summary['task']}, dev {metric}, %", ("seed", *FIGURES), rows)
    echo(f"wrote {out / 'summary.json'}")
    return summary


def summarize(bundles: Sequence[Bundle]) -> dict[str, Any]:
    """The task's metric in % of teacher, start and student, the share kept; mean and sample deviation over seeds."""
    metric = bundles[0].task.metric
    rows: list[dict[str, Any]] = []
    for bundle in bundles:
        manifest = bundle.manifest
        scores = (manifest["teacher_metrics"], manifest["start_metrics"], manifest["metrics"])
        row = {name: 100 * metrics[metric] for name, metrics in zip(FIGURES, scores, strict=False)}
        kept = 100 * row["student"] / row["teacher"] if row["teacher"] > 0 else 0.0
        rows.append({"seed": bundle.manifest["seed"], "digest": bundle.digest, **row, "retention": kept})
    columns = {name: [row[name] for row in rows] for name in FIGURES}
    return {
        "task": bundles[0].task.name, "metric": metric, "seeds": rows,
        "mean": {name: mean(values) for name, values in columns.items()},
        "deviation": {name: stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()},
    }  # fmt: skip


def _check_folder(out: Path) -> None:
    """Seeds lie side by side in a folder of their own."""
    strange = (
        [] if not out.is_dir() else [p.name for p in out.iterdir() if not p.name.lstrip(".").startswith(SEED_FILES)]
    )
    if out.is_file() or strange:
        raise ToolkitError(
            f"--out {out} holds something else than seeds" + (f": {sorted(strange)[0]}" if strange else ""),
            expected="a new path, or the folder of an earlier --seeds", fix="another --out",
        )  # fmt: skip
    check_output_path(out / "seed-0")
    out.mkdir(exist_ok=True)
