"""The columns that `toolkit score` adds: label, score, and a probability or a logit for each label."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.bundle.calibration import is_unsure
from toolkit.data.columns import LOGIT, OURS, PROBABILITY
from toolkit.errors import ToolkitError
from toolkit.inference.metrics import scores
from toolkit.scoring.columns import Types
from toolkit.scoring.endpoints import Endpoint
from toolkit.scoring.inputs import Block
from toolkit.scoring.models import Scorer
from toolkit.tasks import Task


def scored_table(block: Block, types: Types, scorer: Scorer | Endpoint, *, raw: bool) -> pa.Table:
    """Give a block's rows with all columns of the input, by type, and the model's answers.

    Raises:
        ToolkitError: logits that are not finite.
    """
    logits = scorer.answer(*block.texts())
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        place = f"{block.origin.source} line {block.rows[bad[0]].line}"
        raise ToolkitError(
            f"{place}: the model's scores are not finite (NaN or infinity)",
            fix="export or train the model again",
        )
    table: pa.Table = block.table(types)
    columns = answer_columns(
        scorer.task, logits, raw=raw, scale=scorer.scale, thresholds=scorer.thresholds, taken=types.keys()
    )
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def answer_columns(
    task: Task, logits: np.ndarray, *, raw: bool, scale: np.ndarray | float = 1.0,
    thresholds: np.ndarray | None = None, taken: Collection[str] = (),
) -> dict[str, pa.Array]:  # fmt: skip
    """Turn logits [n, C] into columns.

    Classification: `label`, the most probable one; `score`, its probability; `probability_NAME` of each label.
    Multi-label: `label`, a list of those above 0.5; `score`, the highest probability. Regression: `score`, the number.
    With thresholds, `unsure`: whether that probability is below its label's.
    With `raw`, logits stand in place of probabilities, in `score` and `logit_NAME`.

    Args:
        task: names the labels and the kind of output.
        logits: finite.
        raw: write logits.
        scale: factors of the logits, [1] or [C], that make the probabilities calibrated; above 0, they change no label.
        thresholds: of a classification, [C]; None where nothing tells a sure answer.
        taken: names of the input's columns; a column of ours with such a name gets OURS before it.
    """
    probabilities = scores(logits * scale, task.kind)
    values = logits if raw else probabilities
    columns: dict[str, Any] = {}
    if task.kind == "classification":
        columns["label"] = pa.array([task.labels[c] for c in logits.argmax(axis=1)], pa.string())
    elif task.kind == "multi_label":
        names = [[name for name, above in zip(task.labels, row > 0, strict=True) if above] for row in logits]
        columns["label"] = pa.array(names, pa.list_(pa.string()))
    columns["score"] = pa.array(values.max(axis=1))
    if thresholds is not None:
        columns["unsure"] = pa.array(is_unsure(probabilities, thresholds))
    if task.kind != "regression":
        prefix = LOGIT if raw else PROBABILITY
        columns |= {f"{prefix}{name}": pa.array(values[:, c]) for c, name in enumerate(task.labels)}
    return {f"{OURS}{name}" if name in taken else name: column for name, column in columns.items()}
