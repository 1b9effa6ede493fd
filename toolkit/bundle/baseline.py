"""The baseline of a bundle: `baseline.json`, what its model answered to dev rows and what these were like."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import FailFast, Field
from typing_extensions import TypedDict

from toolkit.bundle.calibration import Name
from toolkit.bundle.manifest import BASELINE
from toolkit.bundle.typed_json import Count, parse_typed
from toolkit.files import canonical_json
from toolkit.tasks import TaskRecord

MAX_EDGES = 99


class Bins(TypedDict):
    """The rows by a figure: bin i counts those above `edges[i - 1]` and at most at `edges[i]`, the last one the rest.

    The edges are deciles; where many rows have the same figure they are fewer than nine.
    """

    edges: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=MAX_EDGES), FailFast()]
    """Upper ends of all bins but the last, rising."""
    counts: Annotated[list[Count], Field(max_length=MAX_EDGES + 1), FailFast()]
    """Rows of each bin, one number more than edges."""


class Baseline(TypedDict):
    """The answers of the exported model to dev rows, and these rows, which the server compares its texts with."""

    rows: Count
    """Rows that were counted."""
    rows_of: Name
    """Data that they are of."""
    rows_sha256: str
    """SHA-256 of these rows."""
    labels: Annotated[list[Count], FailFast()]
    """Rows answered with each label, of a multi-label task with a score of 0.5 or more; none for regression."""
    unlabelled: Count
    """Rows answered with no label, as a multi-label task may."""
    confidence: Bins
    """Rows by the best score, which no temperature changed; of a regression by the number itself."""
    length: Bins
    """Rows by their tokens, special ones included."""
    unknown: Bins
    """Rows by the share of unknown pieces among their tokens."""


def write_baseline(folder: Path, baseline: Baseline) -> None:
    """Write the baseline of a bundle that is being made."""
    (folder / BASELINE).write_bytes(canonical_json(baseline))


def parse_baseline(content: bytes, task: TaskRecord | None) -> Baseline:
    """Parse the bytes of a BASELINE file of a task.

    Raises:
        ValueError: the entries have other types or make no sense; the message says which.
    """
    baseline: Baseline = parse_typed(content, Baseline)
    labels = len(task["labels"]) if task and task["kind"] != "regression" else 0
    if len(baseline["labels"]) != labels:
        raise ValueError(f"labels: {len(baseline['labels'])} numbers, expected {labels}")
    most, rows = max([*baseline["labels"], baseline["unlabelled"]]), baseline["rows"]
    if labels and not 0 < most <= rows:
        raise ValueError(f"labels: the most frequent has {most} rows, expected 1 to {rows}")
    bins = {name: baseline[name] for name in ("confidence", "length", "unknown")}
    for name, trait in bins.items():
        edges, counts = trait["edges"], trait["counts"]
        if len(counts) != len(edges) + 1 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"{name}: expected rising edges, and one count more")
        if sum(counts) != rows or not rows:
            raise ValueError(f"{name}: {sum(counts)} rows are counted, expected {rows} and at least 1")
    return baseline
