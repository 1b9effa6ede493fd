"""`toolkit evaluate`: the metrics of a bundle on a labelled split."""

from __future__ import annotations

from pathlib import Path

from toolkit.data.datasets import load_split
from toolkit.data.truncation import measure_truncation, say_truncation
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.predictor import open_predictor
from toolkit.metrics import evaluate
from toolkit.tasks import get_task


def evaluate_bundle(
    path: str | Path,
    *,
    task: str | None = None,
    data: str | None = None,
    split: str = "dev",
    threads: int = 0,
    skip_bad: bool = False,
) -> dict[str, float]:
    """Compute all metrics of a task for a bundle on a labelled split.

    Args:
        path: a bundle.
        task: None for the bundle's own; another task must have the same labels.
        data: folder of files; None for the task's own source.
        split: "dev", "train" or, for MNLI, "dev_mismatched".
        threads: intra-op threads; 0 takes all cores.
        skip_bad: leave bad rows out, and say how many.

    Raises:
        ToolkitError: a damaged bundle, a task with other labels, or data that cannot be used.
    """
    require_packages("sklearn", "scipy", purpose="toolkit evaluate")
    predictor = open_predictor(path, threads=threads)
    own = predictor.task
    chosen = own if task in (None, own.name) else get_task(str(task))
    if chosen.labels != own.labels:
        raise ToolkitError(
            f"{path} answers {', '.join(own.labels)}; {chosen.name} asks for {', '.join(chosen.labels)}",
            fix=f"--task {own.name}",
        )
    rows = load_split(chosen, split, data, skip_bad=skip_bad)
    encoded = predictor.encoder.encode(rows.texts, rows.pairs)
    say_truncation(split, measure_truncation(predictor.encoder, encoded, rows.texts, rows.pairs))
    return evaluate(chosen, predictor.logits(encoded), rows.labels)
