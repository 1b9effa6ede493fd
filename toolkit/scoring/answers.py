"""The columns that `toolkit score` adds: label, score, who answered, and a probability or a logit for each label."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.bundle.calibration import is_unsure
from toolkit.data.columns import LOGIT, OURS, PROBABILITY
from toolkit.errors import ToolkitError
from toolkit.scoring.cascade import Cascade
from toolkit.scoring.columns import Types
from toolkit.scoring.endpoints import Endpoint
from toolkit.scoring.inputs import Block
from toolkit.scoring.models import Answers, Scorer
from toolkit.tasks import Task

Model = Scorer | Endpoint | Cascade


def scored_table(block: Block, types: Types, model: Model, *, raw: bool) -> pa.Table:
    """Give a block's rows with all columns of the input, by type, and the model's answers.

    Raises:
        ToolkitError: logits that are not finite.
    """
    answers = _answers(block, model)
    table: pa.Table = block.table(types)
    for name, column in answer_columns(model.task, answers, raw=raw, taken=types.keys()).items():
        table = table.append_column(name, column)
    return table


def _answers(block: Block, model: Model) -> Answers:
    texts, pairs = block.texts()
    if isinstance(model, Cascade):
        answers = model.answer(texts, pairs, model.most(block.start, block.start + len(texts)))
        _check_finite(block, answers.logits)
        return answers
    logits = model.answer(texts, pairs)
    _check_finite(block, logits)
    scores, thresholds = model.scores(logits), model.thresholds
    return Answers(logits, scores, None if thresholds is None else is_unsure(scores, thresholds))


def _check_finite(block: Block, logits: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        place = f"{block.origin.source} line {block.rows[bad[0]].line}"
        raise ToolkitError(
            f"{place}: the model's scores are not finite (NaN or infinity)",
            fix="export or train the model again",
        )


def answer_columns(task: Task, answers: Answers, *, raw: bool, taken: Collection[str] = ()) -> dict[str, pa.Array]:
    """Turn answers into columns.

    Classification: `label`, the most probable one; `score`, its probability; `probability_NAME` of each label.
    Multi-label: `label`, a list of those above 0.5; `score`, the highest probability. Regression: `score`, the number.
    Where something tells, `unsure`; of two models, `model`, the name of the one that answered.
    With `raw`, logits stand in place of probabilities, in `score` and `logit_NAME`.

    Args:
        task: names the labels and the kind of output.
        answers: to all rows.
        raw: write logits.
        taken: names of the input's columns; a column of ours with such a name gets OURS before it.
    """
    logits, values = answers.logits, answers.logits if raw else answers.scores
    columns: dict[str, Any] = {}
    if task.kind == "classification":
        columns["label"] = pa.array([task.labels[c] for c in logits.argmax(axis=1)], pa.string())
    elif task.kind == "multi_label":
        names = [[name for name, above in zip(task.labels, row > 0, strict=True) if above] for row in logits]
        columns["label"] = pa.array(names, pa.list_(pa.string()))
    columns["score"] = pa.array(values.max(axis=1))
    if answers.unsure is not None:
        columns["unsure"] = pa.array(answers.unsure)
    if answers.models is not None:
        columns["model"] = pa.array(answers.models, pa.string())
    if task.kind != "regression":
        prefix = LOGIT if raw else PROBABILITY
        columns |= {f"{prefix}{name}": pa.array(values[:, c]) for c, name in enumerate(task.labels)}
    return {f"{OURS}{name}" if name in taken else name: column for name, column in columns.items()}
