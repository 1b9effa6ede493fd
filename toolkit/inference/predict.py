"""`toolkit predict`: the best labels of a text, or of each line of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from toolkit.errors import ToolkitError
from toolkit.inference.predictor import LabelScore, Predictor, check_input
from toolkit.tasks import Task

STANDARD_INPUT = "-"
LINES = 64  # that are scored together


def predict_lines(predictor: Predictor, lines: Iterable[str], top_k: int) -> Iterator[str]:
    """Score each line that is not blank: a text, or two with a tab between them where the task is about pairs.

    Yields:
        For each, in their order: its labels with their scores, "(unsure)" where it is, a tab, and the line.

    Raises:
        ToolkitError: a line that the task does not take; it is named by its number.
    """
    numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, start=1) if line.strip())
    pairs = predictor.task.pair_column is not None
    while group := list(islice(numbered, LINES)):
        inputs = [_checked(predictor.task, number, line) for number, line in group]
        seconds = [second or "" for _, second in inputs] if pairs else None
        answers = predictor.classify([first for first, _ in inputs], seconds, top_k=top_k)
        for (_, line), answer in zip(group, answers, strict=True):
            yield f"{_words(answer)}{' (unsure)' * is_unsure_answer(predictor, answer)}\t{line}"


def is_unsure_answer(predictor: Predictor, answer: Sequence[LabelScore]) -> bool:
    """Tell whether the best score of a ranked answer is below its label's threshold, where the bundle has any."""
    label, score = answer[0]
    thresholds = predictor.thresholds
    return thresholds is not None and bool(score < thresholds[predictor.task.labels.index(label)])


def _checked(task: Task, number: int, line: str) -> tuple[str, str | None]:
    first, tab, second = line.partition("\t") if task.pair_column is not None else (line, "", "")
    try:
        check_input(task, first, second if tab else None)
    except ToolkitError as error:
        expected = "two texts with a tab between them" if task.pair_column is not None else error.expected
        raise ToolkitError(f"line {number}: {error.problem}", expected=expected) from None
    return first, second if tab else None


def _words(labels: Sequence[LabelScore]) -> str:
    return ", ".join(f"{label} {score:.4f}" for label, score in labels)
