"""`toolkit distill --seeds`: a student for each seed, and the mean and deviation of their metrics."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import TypedDict

from toolkit.bundle.format import Bundle, check_output_path, is_bundle, open_bundle
from toolkit.bundle.manifest import ScoredSplit
from toolkit.bundle.provenance import check_output, run_or_reuse, stored_bundle
from toolkit.config import DistillConfig
from toolkit.console import echo, show_table
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, canonical_json
from toolkit.training.distributed import distributed_state

SUMMARY, ANSWERS = "summary.json", "teacher-scores.parquet"


Scores = dict[str, float]  # teacher, start, student, retention


class SeedSummary(TypedDict):
    """Scores of all seeds on a split, each with its seed and digest, and their mean and sample deviation."""

    task: str
    metric: str
    split: ScoredSplit
    seeds: list[dict[str, float | int | str | None]]
    mean: Scores
    deviation: Scores


def run_seeds(config: DistillConfig) -> SeedSummary:
    """Distil a student for each of `config.seeds` into OUT/seed-N, reuse those that exist, and write OUT/summary.json.

    Raises:
        ToolkitError: as `run_distill`; OUT holds other files, seeds made by other options, or seeds that learnt from
            different data.
    """
    config.check()
    out = Path(config.out)
    _check_folder(out)
    seeds = list(dict.fromkeys(map(int, str(config.seeds).split(","))))
    parent = open_bundle(config.teacher) if config.teacher and is_bundle(Path(config.teacher)) else None
    configs = [replace(config, seed=seed, seeds=None, out=str(out / f"seed-{seed}")) for seed in seeds]
    for config in configs:
        if stored_bundle(config, parent) is None:
            check_output(config, config.sources)
    # one set of the teacher's answers for all seeds
    run = functools.partial(run_distill, answers=out / ANSWERS)
    bundles = [run_or_reuse(f"seed {config.seed}", config, run, parent) for config in configs]
    if len({_data_of(bundle) for bundle in bundles}) > 1:
        raise ToolkitError(f"the seeds in {out} learnt from different data", fix=f"remove {out} and run again")
    summary = summarize(bundles)
    if distributed_state().is_main_process:
        with atomic_file(out / SUMMARY) as partial:
            partial.write_bytes(canonical_json(summary))
    columns = list(summary["mean"])
    lines = [[str(row["seed"]), *(f"{row[name]:.2f}" for name in columns)] for row in summary["seeds"]]
    lines.append(["mean", *(f"{summary['mean'][name]:.2f}" for name in columns)])
    lines.append(["deviation", *(f"{summary['deviation'][name]:.2f}" for name in columns)])
    show_table(f"{summary['task']}, {summary['split']} {summary['metric']}, %", ("seed", *columns), lines)
    echo(f"wrote {out / SUMMARY}")
    return summary


def summarize(bundles: Sequence[Bundle]) -> SeedSummary:
    """Compute the task's metric in % of teacher, start and student, and the retention; their mean and deviation."""
    metric = bundles[0].task.metric
    scores = [_scores(bundle, metric) for bundle in bundles]
    columns = {name: [row[name] for row in scores] for name in scores[0]}
    return {
        "task": bundles[0].task.name, "metric": metric, "split": bundles[0].split,
        "seeds": [
            {"seed": bundle.manifest["seed"], "digest": bundle.digest, **row}
            for bundle, row in zip(bundles, scores, strict=True)
        ],
        "mean": {name: mean(values) for name, values in columns.items()},
        "deviation": {name: stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()},
    }  # fmt: skip


def _data_of(bundle: Bundle) -> str:
    """Give the digests of a bundle's data, as JSON; each seed chooses its step by rows of its own."""
    digests = {name: digest for name, digest in bundle.manifest["data"].items() if name != "selection"}
    return json.dumps(digests, sort_keys=True)


def _scores(bundle: Bundle, metric: str) -> Scores:
    manifest = bundle.manifest
    start, student = (100 * metrics[metric] for metrics in (manifest["start_metrics"], manifest["metrics"]))
    if metric not in manifest["teacher_metrics"]:  # a file of answers may have none to dev rows
        return {"start": start, "student": student}
    teacher = 100 * manifest["teacher_metrics"][metric]
    retention = 100 * student / teacher if teacher > 0 else 0.0
    return {"teacher": teacher, "start": start, "student": student, "retention": retention}


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds anything but seeds and their summary; make it where it does not exist."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    # a file has a dot before its name while it is written
    strangers = sorted(name for name in names if not name.lstrip(".").startswith(("seed-", SUMMARY, ANSWERS)))
    if out.is_file() or strangers:
        raise ToolkitError(
            f"--out {out} holds something else than seeds" + (f": {strangers[0]}" if strangers else ""),
            expected="a new path, or the folder of an earlier --seeds", fix="another --out",
        )  # fmt: skip
    check_output_path(out / "seed-0")
    out.mkdir(exist_ok=True)
