"""The rows of a train split, known by their fingerprints: texts are read again for the rows that are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.data.datasets import Split, SplitTable, collect, find_split, no_rows
from toolkit.data.row_problems import RowProblems
from toolkit.data.sources import is_dev
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
    """Read the train split once, and keep 8 bytes of each row; dev is read after it.

    Raises:
        ToolkitError: as `load_split`.
    """
    return read_as_train(find_split(task, "train", data, options, dev_follows=True), skip_bad=options.skip_bad_rows)


def read_as_train(located: SplitTable, *, skip_bad: bool) -> TrainRows:
    """Read a split once as if it were train, and keep 8 bytes of each row.

    Raises:
        ToolkitError: bad rows, or none.
    """
    digest, fingerprints = hashlib.sha256(), list[int]()
    problems = RowProblems(located.table.name, skip_bad=skip_bad)
    for own, label in _inputs(located, problems):
        fingerprints.append(fingerprint(*own))
        digest.update(_row_content(own, label))
    problems.settle()
    if not fingerprints:
        raise no_rows(located)
    return TrainRows(
        np.array(fingerprints, dtype=np.uint64), digest.hexdigest(), located.table.name,
        lambda numbers: collect(located, skip_bad, numbers),
    )  # fmt: skip


def digest_without_dev(located: SplitTable, share: float) -> str:
    """Give the digest of what is train where a file is all the data and `share` of it is dev."""
    digest, problems = hashlib.sha256(), RowProblems(located.table.name, skip_bad=True)
    for own, label in _inputs(located, problems):
        if not is_dev(own[0], share):
            digest.update(_row_content(own, label))
    return digest.hexdigest()


def _inputs(located: SplitTable, problems: RowProblems) -> Iterator[tuple[tuple[str, str], object]]:
    """Yield the input and the label of each good row; the bad ones go to `problems`."""
    text, pair, _ = located.columns
    for row, label in located.rows(problems):
        yield (row.cells[text], row.cells[text if pair is None else pair]), label


def _row_content(own: tuple[str, str], label: object) -> bytes:
    return json.dumps([*own, label], ensure_ascii=False).encode()


def fingerprints_of(split: Split) -> np.ndarray:
    """Return the fingerprint of each row's input, [n] uint64."""
    return np.array([fingerprint(*own) for own in split.inputs], dtype=np.uint64)


def fingerprint(text: str, second: str) -> int:
    """Return 64 bits of a hash of an input, a text and its second text, or the text again where there is none."""
    content = json.dumps([text, second], ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
