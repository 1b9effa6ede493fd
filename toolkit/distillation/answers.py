"""A teacher's answers to texts, in a file: logits, probabilities or labels alone, whatever gave them.

The columns are those that `toolkit score` writes: `text` and, for pairs, `text_pair`; then `logit_NAME` or
`probability_NAME` of each label, or `score` for a number, or `label` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from toolkit.console import echo
from toolkit.data.columns import DEFAULTS, LOGIT, OURS, PROBABILITY, choose_columns, guesses
from toolkit.data.labels import encode_label, infer_task, number_of, read_label
from toolkit.data.readers import FILE_SUFFIXES, Column, Row, read_rows
from toolkit.data.row_problems import RowProblem, RowProblems
from toolkit.distillation.labels import places_by_name
from toolkit.errors import ToolkitError
from toolkit.tasks import Kind, Task

LEAST = 1e-7  # a probability of 0 has no logit
MAX_SUM_ERROR = 0.01  # of probabilities, which a log may round
METRICS: dict[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "f1"), "multi_label": ("f1", "accuracy"), "regression": ("spearman", "pearson"),
}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """Answers to n texts.

    Attributes:
        task: the labels of the outputs, in their order, and what the logits stand for.
        texts, pairs: n texts and, for pairs, n second ones.
        logits: [n, C] float32.
        gold: cells with the labels of people, where the file has them beside its answers; else None.
        hard: the file has labels alone.
    """

    task: Task
    texts: list[str]
    pairs: list[str] | None
    logits: np.ndarray
    gold: list[object] | None
    hard: bool

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """The text and the second text of each row, or the text again where there is none, as `Split.inputs`."""
        return list(zip(self.texts, self.pairs or self.texts, strict=True))

    def take(self, rows: Sequence[int] | np.ndarray) -> Answers:
        """Give the chosen rows."""
        return replace(
            self, texts=[self.texts[row] for row in rows],
            pairs=None if self.pairs is None else [self.pairs[row] for row in rows],
            gold=None if self.gold is None else [self.gold[row] for row in rows],
            logits=self.logits[np.asarray(rows, dtype=np.int64)],
        )  # fmt: skip


def read_answers(path: Path, task: Task | None = None, *, smoothing: float = 0.0, skip_bad: bool = False) -> Answers:
    """Read a file of answers.

    A logit of a probability p is ln p for labels that exclude each other, else ln p / (1 - p). A label alone is read as
    a probability of 1 - `smoothing` for it, and the rest in equal parts for the others.

    Args:
        path: .parquet, .csv, .tsv or .jsonl.
        task: that is answered, whose order of labels the logits get; None takes the labels of the file.
        smoothing: of labels alone.
        skip_bad: leave rows out that cannot be used, and say how many.

    Raises:
        ToolkitError: no such file, no answers in it, other labels than the task's, or rows that cannot be used.
    """
    if not path.is_file() or not path.name.endswith(FILE_SUFFIXES):
        raise ToolkitError(
            f"--teacher-scores {path}: " + ("no table" if path.is_file() else "no such file"),
            expected=f"a file of answers, {', '.join(FILE_SUFFIXES)}",
            fix=f"toolkit score TEACHER --input FILE --out {path}",
        )
    rows = list(read_rows(path))
    names = list(dict.fromkeys(str(name) for row in rows[:100] for name in row.cells))
    if not rows:
        raise ToolkitError(f"{path} has no rows", expected="an answer a row")
    columns, prefix = _answer_columns(names, path)
    text, pair, _ = placed = choose_columns(str(path), names, pairs=None, options=DEFAULTS, labelled=False)
    for remark in guesses(str(path), placed, DEFAULTS):
        echo(remark)
    texts: list[Column] = [text] if pair is None else [text, pair]
    chosen = task or _task(rows, columns, prefix, path)
    problems = RowProblems(str(path), skip_bad=skip_bad)
    rows = [row for row in rows if problems.is_good([*row.problems(texts), *_problems(row, columns, prefix, chosen)])]
    problems.settle()
    first, second = ([str(row.cells[name]) for row in rows] for name in (texts[0], texts[-1]))
    gold = [row.cells.get("label") for row in rows] if f"{OURS}label" in names and "label" in names else None
    if prefix == "label":
        logits = _hard_logits(chosen, [row.cells[columns[0]] for row in rows], smoothing)
    else:
        logits = _soft_logits(chosen, rows, columns, prefix, path)
    return Answers(chosen, first, None if pair is None else second, logits, gold, prefix == "label")


def _answer_columns(names: Sequence[str], path: Path) -> tuple[list[str], str]:
    """Find the columns of the answers and what they hold: LOGIT, PROBABILITY, "label" or "score"."""
    for prefix in (LOGIT, PROBABILITY):
        if columns := [name for name in names if name.startswith(prefix)]:
            return columns, prefix
    for kind in ("label", "score"):
        for name in (f"{OURS}{kind}", kind):
            if name in names:
                return [name], kind
    raise ToolkitError(
        f"{path} has no answers; its columns are {', '.join(map(repr, names))}",
        expected="logit_NAME or probability_NAME for each label, label alone, or score for a number",
        fix=f"toolkit score TEACHER --input FILE --out {path}",
    )


def _task(rows: Sequence[Row], columns: Sequence[str], prefix: str, path: Path) -> Task:
    """Infer the task from the answers themselves."""
    if prefix == "label":
        return infer_task(rows, columns[0], str(path))
    labels = tuple(name.removeprefix(prefix) for name in columns)
    given = (row.cells.get(name) for row in rows for name in (f"{OURS}label", "label"))
    several = isinstance(read_label(next((cell for cell in given if cell not in (None, "")), None)), list)
    kind: Kind = "regression" if len(labels) == 1 else "multi_label" if several else "classification"
    return Task("auto", ("score",) if kind == "regression" else labels, kind=kind, metrics=METRICS[kind])


def _problems(row: Row, columns: Sequence[str], prefix: str, task: Task) -> list[RowProblem]:
    """List cells of answers that cannot be used."""
    cells = {name: row.cells.get(name) for name in columns}
    if prefix == "label":
        problem = encode_label(task, cells[columns[0]])[1]
        return [] if problem is None else [RowProblem(row.line, f"column {columns[0]!r}", *problem)]
    if bad := [name for name, cell in cells.items() if number_of(cell) is None]:
        return [RowProblem(row.line, f"column {name!r}", repr(cells[name]), "a number") for name in bad]
    if prefix != PROBABILITY:
        return []
    numbers = {name: number_of(cell) or 0.0 for name, cell in cells.items()}
    problems = [
        RowProblem(row.line, f"column {name!r}", str(number), "0 to 1")
        for name, number in numbers.items()
        if not 0 <= number <= 1
    ]
    total = sum(numbers.values())
    if task.kind == "classification" and not problems and abs(total - 1) > MAX_SUM_ERROR:
        problems.append(RowProblem(row.line, "sum of the probabilities", f"{total:.3f}", "1"))
    return problems


def _soft_logits(task: Task, rows: Sequence[Row], columns: Sequence[str], prefix: str, path: Path) -> np.ndarray:
    """Turn logits, probabilities or numbers into logits [n, C] in the order of the task's labels."""
    names = [name.removeprefix(prefix) for name in columns]
    places = [0] if task.kind == "regression" and len(names) == 1 else places_by_name(task.labels, names)
    if places is None:
        raise ToolkitError(
            f"{path} answers {', '.join(names)}; {task.name} asks for {', '.join(task.labels)}",
            expected="columns named after the task's labels", fix="rename the columns, or another --task",
        )  # fmt: skip
    values = np.array([[float(row.cells[columns[place]]) for place in places] for row in rows], dtype=np.float64)
    return _log_odds(values, task.kind) if prefix == PROBABILITY else values.astype(np.float32)


def _hard_logits(task: Task, cells: Sequence[object], smoothing: float) -> np.ndarray:
    """Turn labels alone into the logits [n, C] of smoothed probabilities, numbers into themselves."""
    encoded = np.array([encode_label(task, cell)[0] for cell in cells])
    if task.kind == "regression":
        return encoded[:, None].astype(np.float32)
    if task.kind == "multi_label":
        return _log_odds(np.where(encoded > 0, 1 - smoothing, smoothing), task.kind)
    held = encoded[:, None] == np.arange(len(task.labels))
    return _log_odds(np.where(held, 1 - smoothing, smoothing / (len(task.labels) - 1)), task.kind)


def _log_odds(probabilities: np.ndarray, kind: Kind) -> np.ndarray:
    """Give logits [n, C] whose softmax, or sigmoid for multi_label, are the probabilities."""
    clipped = np.clip(probabilities, LEAST, 1 - LEAST)
    logits = np.log(clipped)
    return np.asarray(logits - np.log1p(-clipped) if kind == "multi_label" else logits, dtype=np.float32)
