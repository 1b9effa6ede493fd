"""The rows of a train split, known by their fingerprints: texts are read again for the rows that are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, collect, find_split, no_rows
from toolkit.data.row_problems import RowProblems
from toolkit.tasks import Task


@dataclass(frozen=True)
class TrainRows:
    """n rows of a train split.

    Attributes:
        fingerprints: of each row's input, [n] uint64.
        digest: SHA-256 over all rows.
        source: file, hub name or package of the rows.
        take: reads the rows of these ascending numbers.
    """

    fingerprints: np.ndarray
    digest: str
    source: str
    take: Callable[[np.ndarray], Split]

    def __len__(self) -> int:
        return len(self.fingerprints)

    def single(self) -> np.ndarray:
        """Return the numbers of the rows with an input that no other row has, ascending."""
        _, kinds, counts = np.unique(self.fingerprints, return_inverse=True, return_counts=True)
        return np.flatnonzero(counts[kinds] == 1)

    def numbers_in(self, split: Split) -> np.ndarray:
        """Return the numbers of a split's rows with an input that stands in train, ascending."""
        return np.flatnonzero(np.isin(fingerprints_of(split), self.fingerprints))


def load_train(task: Task, data: str | Path | None = None, options: DataOptions = DEFAULTS) -> TrainRows:
    """Read the train split once, and keep 8 bytes of each row.

    Raises:
        ToolkitError: as `load_split`.
    """
    located, digest = find_split(task, "train", data, options), hashlib.sha256()
    text, pair, _ = located.columns
    problems = RowProblems(located.table.name, skip_bad=options.skip_bad_rows)
    fingerprints: list[int] = []
    for row, label in located.rows(problems):
        own = (row.cells[text], row.cells[text if pair is None else pair])
        fingerprints.append(fingerprint(*own))
        digest.update(_row_content(own, label.tolist() if isinstance(label, np.ndarray) else label))
    problems.settle()
    if not fingerprints:
        raise no_rows(located)
    return TrainRows(
        np.array(fingerprints, dtype=np.uint64), digest.hexdigest(), located.table.name,
        lambda numbers: collect(located, options.skip_bad_rows, numbers),
    )  # fmt: skip


def digest_as_train(split: Split) -> str:
    """Give the digest that `load_train` would give these rows, to tell whether a model was trained on them."""
    digest = hashlib.sha256()
    for own, label in zip(split.inputs, split.labels.tolist(), strict=True):
        digest.update(_row_content(own, label))
    return digest.hexdigest()


def _row_content(own: tuple[str, str], label: object) -> bytes:
    return json.dumps([*own, label], ensure_ascii=False).encode()


def fingerprints_of(split: Split) -> np.ndarray:
    """Return the fingerprint of each row's input, [n] uint64."""
    return np.array([fingerprint(*own) for own in split.inputs], dtype=np.uint64)


def fingerprint(text: str, second: str) -> int:
    """Return 64 bits of a hash of an input, a text and its second text, or the text again where there is none."""
    content = json.dumps([text, second], ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
