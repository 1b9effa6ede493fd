"""A teacher's answers kept in a file, so that another seed or other epochs do not ask the teacher again.

The file is one that `--teacher-scores` reads alone too: the texts with their logits. Its metadata name the teacher, and
only the same teacher's answers are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.console import echo
from toolkit.data.columns import LOGIT
from toolkit.distillation.answers import read_answers
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file, canonical_json
from toolkit.tasks import Task
from toolkit.training.distributed import distributed_state

RECORD = b"toolkit.teacher"  # the name of the metadata in the Parquet file
Inputs = tuple[Sequence[str], Sequence[str] | None]
Key = tuple[str, str]  # a text and its second text, or the text again


@dataclass(frozen=True)
class AnswerCache:
    """A file of one teacher's answers.

    Attributes:
        path: of the file, .parquet; made where it does not exist.
        record: the teacher's digest and what else decides its answers, by name.
        task: with the labels of the outputs, in their order.
        own: the command chose the path: answers of another teacher there are replaced, not refused.
    """

    path: Path
    record: Mapping[str, object]
    task: Task
    own: bool = False

    def logits(self, inputs: Inputs, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Give the logits [n, C] of n inputs: those in the file, the others by `compute`, which are added to it.

        Args:
            inputs: texts and, for pairs, second texts.
            compute: gives the logits of the inputs with these numbers.

        Raises:
            ToolkitError: as `check`.
        """
        self.check()
        keys, stored = _keys(inputs), self._read()
        rows = _missing(keys, stored)
        if not len(rows):
            echo(f"the teacher's answers are those in {self.path}")
        else:
            stored |= dict(zip([keys[row] for row in rows], compute(rows), strict=True))
            self._write(stored, inputs[1] is not None)
        return np.array([stored[key] for key in keys], dtype=np.float32)

    def missing(self, inputs: Inputs) -> int:
        """Count the different inputs whose answers are not in the file."""
        return len(_missing(_keys(inputs), self._read()))

    def check(self) -> None:
        """Refuse a file of another teacher, or one that cannot be written, before hours of training.

        Raises:
            ToolkitError: says what differs.
        """
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise ToolkitError(
                f"--teacher-scores {self.path}: cannot be written", expected="a file in a directory that exists"
            )
        record = self._stored_record()
        if record is None or record == self.record or self.own:
            return
        differing = [name for name in self.record if record.get(name) != self.record[name]]
        raise ToolkitError(
            f"--teacher-scores {self.path} does not hold this teacher's answers: {', '.join(differing)} differ",
            expected="a new file, or one that an earlier run with this teacher wrote",
            fix="another --teacher-scores, or no --teacher, to learn from this file alone",
        )

    def _stored_record(self) -> dict[str, object] | None:
        if not self.path.exists():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(self.path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise ToolkitError(f"{self.path} is not Parquet that can be read: {error}", fix="another file") from None
        record: dict[str, object] = json.loads(metadata.get(RECORD, b"{}"))
        return record

    def _read(self) -> dict[Key, np.ndarray]:
        if self._stored_record() != self.record:
            return {}
        answers = read_answers(self.path, self.task)
        return dict(zip(answers.inputs, answers.logits, strict=True))

    def _write(self, stored: dict[Key, np.ndarray], pairs: bool) -> None:
        if distributed_state().is_main_process:
            import pyarrow as pa
            import pyarrow.parquet as pq

            texts, seconds = zip(*stored, strict=True)
            logits = np.array(list(stored.values()), dtype=np.float32)
            columns = {"text": pa.array(texts)} | ({"text_pair": pa.array(seconds)} if pairs else {})
            columns |= {f"{LOGIT}{name}": pa.array(logits[:, c]) for c, name in enumerate(self.task.labels)}
            table = pa.table(columns).replace_schema_metadata({RECORD: canonical_json(self.record)})
            with atomic_file(self.path, fix="another --teacher-scores") as partial:
                pq.write_table(table, partial, compression="zstd")
            echo(f"the teacher's answers are in {self.path}, for the next run")
        distributed_state().wait_for_everyone()


def _keys(inputs: Inputs) -> list[Key]:
    texts, pairs = inputs
    return list(zip(texts, pairs or texts, strict=True))


def _missing(keys: Sequence[Key], stored: Mapping[Key, np.ndarray]) -> np.ndarray:
    """Give the numbers of the inputs that are not stored, of equal ones the first."""
    first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in stored}
    return np.array(sorted(first.values()), dtype=np.int64)
