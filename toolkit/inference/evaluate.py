"""`toolkit evaluate`: the metrics of a bundle on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from toolkit.bundle.manifest import Manifest
from toolkit.config import CascadeConfig, EvaluateConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split
from toolkit.data.sources import DEV_SHARE, WHOLE, is_dev
from toolkit.data.truncation import measure_truncation, say_truncation
from toolkit.errors import ToolkitError, require_packages, some
from toolkit.inference.metrics import evaluate, meanings
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import Task, get_task


class Evaluation(NamedTuple):
    """The metrics of a model by name, as fractions (0.83 is 83 %), and the split that they are of."""

    split: str
    metrics: dict[str, float]


def run_evaluate(config: EvaluateConfig) -> Evaluation:
    """Compute all metrics of a task for a bundle, on rows as `rows_to_score` chooses them.

    Raises:
        ToolkitError: options that cannot be used, a damaged bundle, a task with other labels, or data that cannot be
            used.
    """
    config.check()
    require_packages("sklearn", "scipy", purpose="toolkit evaluate")
    predictor = open_predictor(config.bundle, threads=config.threads)
    learnt = predictor.task
    task = learnt if config.task in (None, "auto", learnt.name) else get_task(str(config.task))
    if task.labels != learnt.labels:
        raise ToolkitError(
            f"{config.bundle} answers {some(learnt.labels)}; {task.name} asks for {some(task.labels)}",
            fix=f"--task {learnt.option}",
        )
    split, rows = rows_to_score(config, task, predictor.bundle.manifest, usual="dev")
    encoded = predictor.encoder.encode(rows.texts, rows.pairs)
    say_truncation(split, measure_truncation(predictor.encoder, encoded, rows.texts, rows.pairs))
    metrics = evaluate(task, predictor.logits(encoded), rows.labels)
    if said := meanings(task):
        echo("; ".join(said))
    return Evaluation(split, metrics)


def rows_to_score(
    config: EvaluateConfig | CascadeConfig, task: Task, manifest: Manifest, *, usual: str
) -> tuple[str, Split]:
    """Load the rows that the options mean, with the name of their split.

    Without --split and --dev-share a single file gives all of its rows, but only its dev share where the model was made
    from that file: it has learnt the others. A folder and a task's own data give the `usual` split.

    Raises:
        ToolkitError: data that cannot be used.
    """
    options = DataOptions.of(config)
    single = config.data is not None and Path(config.data).is_file()
    if config.split is not None or config.dev_share is not None or not single:
        split = config.split or ("dev" if single else usual)
        return split, load_split(task, split, config.data, options)
    rows = load_split(task, WHOLE, config.data, options)
    share = dev_share(manifest)
    dev = rows.take(np.flatnonzero([is_dev(text, share) for text in rows.texts]))
    if dev.digest != manifest.get("data", {}).get("dev"):
        return WHOLE, rows
    echo(
        f"{config.data}: the model was made from it; only its dev rows are scored, {len(dev):,} (else: --split {WHOLE})"
    )
    return "dev", dev


def dev_share(manifest: Manifest) -> float:
    """Give the share that was dev where one file was all of a model's data."""
    share = manifest.get("config", {}).get("dev_share")
    return share if isinstance(share, float) else DEV_SHARE
