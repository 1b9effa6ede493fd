"""`toolkit evaluate`: the metrics of a bundle on a labelled split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from toolkit.config import EvaluateConfig
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import load_split
from toolkit.data.sources import WHOLE
from toolkit.data.truncation import measure_truncation, say_truncation
from toolkit.errors import ToolkitError, require_packages, some
from toolkit.inference.metrics import evaluate
from toolkit.inference.predictor import open_predictor
from toolkit.tasks import get_task


class Evaluation(NamedTuple):
    """The metrics of a model by name, as fractions (0.83 is 83 %), and the split that they are of."""

    split: str
    metrics: dict[str, float]


def run_evaluate(config: EvaluateConfig) -> Evaluation:
    """Score a bundle as the options say; of a single file every row, unless they name a split or a share.

    Raises:
        ToolkitError: options that cannot be used, and as `evaluate_bundle`.
    """
    config.check()
    whole = config.data is not None and Path(config.data).is_file() and config.dev_share is None
    split = config.split or (WHOLE if whole else "dev")
    metrics = evaluate_bundle(
        config.bundle, task=config.task, data=config.data, split=split, threads=config.threads,
        options=DataOptions.of(config),
    )  # fmt: skip
    return Evaluation(split, metrics)


def evaluate_bundle(
    path: str | Path,
    *,
    task: str | None = None,
    data: str | None = None,
    split: str = "dev",
    threads: int = 0,
    options: DataOptions = DEFAULTS,
) -> dict[str, float]:
    """Compute all metrics of a task for a bundle on a labelled split.

    Args:
        path: a bundle.
        task: None for the bundle's own; another task must have the same labels.
        data: a folder, a file or hub:NAME; None for the task's own source.
        split: "dev", "test", "train" or another one; for MNLI also "dev_mismatched"; "all" for every row of a file.
        threads: intra-op threads; 0 takes all cores.
        options: columns, the share that is dev, what happens with bad rows.

    Raises:
        ToolkitError: a damaged bundle, a task with other labels, or data that cannot be used.
    """
    require_packages("sklearn", "scipy", purpose="toolkit evaluate")
    predictor = open_predictor(path, threads=threads)
    own = predictor.task
    chosen = own if task in (None, "auto", own.name) else get_task(str(task))
    if chosen.labels != own.labels:
        raise ToolkitError(
            f"{path} answers {some(own.labels)}; {chosen.name} asks for {some(chosen.labels)}",
            fix=f"--task {own.option}",
        )
    rows = load_split(chosen, split, data, options)
    encoded = predictor.encoder.encode(rows.texts, rows.pairs)
    say_truncation(split, measure_truncation(predictor.encoder, encoded, rows.texts, rows.pairs))
    return evaluate(chosen, predictor.logits(encoded), rows.labels)
