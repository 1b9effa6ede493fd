"""The claimed comparison in fresh processes: what one process finds depends on where its memory happens to lie.

`python -m toolkit.bench.replicates` is the child: the job as JSON on stdin, the pairs as JSON on stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.bench.comparisons import CLAIM_BUDGET_S, BenchContext, claim_runner, random_batch
from toolkit.bench.models import BenchModel
from toolkit.bench.random_models import torch_threads
from toolkit.bench.runners import RunnerCache
from toolkit.config import BenchConfig
from toolkit.console import progress
from toolkit.errors import ToolkitError
from toolkit.measurement.statistics import replicated_ratio
from toolkit.measurement.timing import measure_pairs

CHILD_TIMEOUT_S = 900.0


def replicate(setting: BenchContext, comparisons: list[dict[str, Any]]) -> None:
    """Repeat each claimed comparison in --replicates fresh processes; adds `replicated` to its entry.

    `replicated` holds the processes' ratios and raw samples, and what they say together.

    Raises:
        ToolkitError: a child failed.
    """
    config = setting.config
    subjects = {subject.architecture: subject for subject in setting.subjects}
    claimed = [one for one in comparisons if one["claim"] is not None]
    jobs = [name for name in subjects for _ in range(config.replicates)]
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with progress("fresh processes", len(jobs)) as bar:
        for name in jobs:
            for size, pairs in zip(config.batch_sizes, _child(setting, subjects[name]), strict=True):
                runs.setdefault((name, size), []).append(pairs)
            bar.advance()
    for one in claimed:
        found = runs[one["b"]["model"], one["batch_size"]]
        ratio = replicated_ratio([pairs["ratio"] for pairs in found])
        one["replicated"] = {
            "ratio": ratio.value, "low": ratio.low, "high": ratio.high, "processes": ratio.pairs, "runs": found,
        }  # fmt: skip


def job(setting: BenchContext, subject: BenchModel) -> dict[str, Any]:
    """All that a child needs to know."""
    sides = [{"name": one.name, "config": one.config, "onnx": str(one.onnx)} for one in (setting.baseline, subject)]
    return {"sides": sides, "threads": setting.stable.threads, "options": asdict(setting.config)}


def run_job(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """In the child: the comparison at each batch size."""
    stored: dict[str, Any] = asked["options"]
    options: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in stored.items()}
    config = BenchConfig(**options)
    baseline, subject = (BenchModel(one["name"], one["config"], Path(one["onnx"])) for one in asked["sides"])
    found = []
    with torch_threads(asked["threads"]):
        setting = BenchContext(config, RunnerCache(asked["threads"], config.device), baseline, [subject], {})
        match = claim_runner(setting, subject)
        for size in config.batch_sizes:
            batch = random_batch(size, config.length, setting.vocabulary, config.seed)
            pairs = measure_pairs(
                match.a.program(batch), match.b.program(batch), max_pairs=config.max_pairs, claim=match.claim,
                budget_s=CLAIM_BUDGET_S,
            )  # fmt: skip
            found.append(pairs.to_dict())
    return found


def _child(setting: BenchContext, subject: BenchModel) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "toolkit.bench.replicates"]
    done = subprocess.run(  # noqa: S603
        command, input=json.dumps(job(setting, subject)), capture_output=True, text=True, timeout=CHILD_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise ToolkitError(f"a fresh process for --replicates failed:\n{done.stderr.strip()[-2000:]}")
    return list(json.loads(done.stdout))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_job(json.load(sys.stdin))))
