"""The columns of a table: named by the user, by an official file, or guessed by their names, and then said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

from toolkit.data.readers import Column
from toolkit.errors import ToolkitError

# names in use, the likeliest first; letters of either case
PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"),
)  # fmt: skip
TEXTS = (
    "text", "sentence", "content", "review", "utterance", "query", "question", "message", "comment", "tweet", "body",
    "document", "description", "input", *(first for first, _ in PAIRS[1:]),
)  # fmt: skip
LABELS = (
    "label", "labels", "category", "class", "intent", "target", "sentiment", "topic", "tag", "gold_label", "score",
    "rating", "stars", "is_duplicate", "output",
)  # fmt: skip
# columns of answers, as `toolkit score` writes them: before the name of a label, and before a name that the input has
LOGIT, PROBABILITY, OURS = "logit_", "probability_", "predicted_"


@dataclass(frozen=True)
class DataOptions:
    """How a person says that their files are to be read.

    Attributes:
        text_column, pair_column, label_column: names of columns; None lets them be guessed.
        dev_share: fraction of the rows that is dev, where a file holds both; None for the default.
        skip_bad_rows: leave rows out that cannot be used.
    """

    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    dev_share: float | None = None
    skip_bad_rows: bool = False

    @classmethod
    def of(cls, options: object) -> Self:
        """Take them from a command's options."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


DEFAULTS = DataOptions()


class Columns(NamedTuple):
    """The columns of the text, the second text of a pair, and the label."""

    text: Column
    pair: Column | None
    label: Column | None


def choose_columns(
    name: str, present: Sequence[Column], *, pairs: bool | None, options: DataOptions,
    official: Columns | None = None, labelled: bool = True,
) -> Columns:  # fmt: skip
    """Choose the columns to read: those that the options name, then official ones, then the likeliest names.

    Args:
        name: of the table, for messages.
        present: the table's columns.
        pairs: the task is about pairs of texts; None where two columns that are a pair by name decide it.
        options: named columns must be there.
        official: columns as the task's own files have them.
        labelled: the label is needed.

    Raises:
        ToolkitError: a column that is not there, or one for two roles; the message lists those that are.
    """
    if pairs is False and options.pair_column:
        raise ToolkitError(f"--pair-column {options.pair_column}: the task is about single texts", fix="leave it out")
    text = options.text_column or _first(present, [*(official or ())[:1], *TEXTS])
    pair: Column | None = options.pair_column
    if pair is None and (pairs or (pairs is None and options.text_column is None)):
        names = [*([(official.text, official.pair)] if official else []), *PAIRS]
        there = [(_first(present, [first]), _first(present, [second])) for first, second in names]
        complete = [(a, b) for a, b in there if a is not None and b is not None and options.text_column in (None, a)]
        text, pair = complete[0] if complete else (text, "text_pair" if pairs else None)
    label = options.label_column or _first(present, [*(official or ())[2:], *LABELS])
    columns = Columns("text" if text is None else text, pair, "label" if label is None else label)
    columns = columns if labelled else columns._replace(label=None)
    _check(name, present, columns)
    return columns


def find_label(present: Sequence[Column], options: DataOptions, official: Columns | None = None) -> Column | None:
    """Find the column of the labels as `choose_columns` does; None where there is none."""
    label = options.label_column or _first(present, [*(official or ())[2:], *LABELS])
    return label if label in present else None


def guesses(name: str, columns: Columns, options: DataOptions, official: Columns | None = None) -> list[str]:
    """Say in a line which columns were guessed: those that are neither named by the options nor the usual ones."""
    usual = official or Columns("text", "text_pair", "label")
    roles = {
        role: column
        for role, column, expected in zip(Columns._fields, columns, usual, strict=True)
        if column is not None and column != expected and getattr(options, f"{role}_column") is None
    }
    if not roles:
        return []
    shown = ", ".join(f"{role} in the column {column!r}" for role, column in roles.items())
    return [f"{name}: {shown} (else: {', '.join(f'--{role}-column' for role in roles)})"]


def _first(present: Iterable[Column], names: Iterable[Column | None]) -> Column | None:
    """Find the first of some names that is there: as it stands, or with letters of another case."""
    exact = list(present)
    folded = {str(column).strip().casefold(): column for column in reversed(exact)}
    return next(
        (name if name in exact else folded[str(name).casefold()]
         for name in names if name in exact or (name is not None and str(name).casefold() in folded)), None,
    )  # fmt: skip


def _check(name: str, present: Sequence[Column], columns: Columns) -> None:
    needed = [column for column in columns if column is not None]
    missing = [column for column in needed if column not in present]
    if missing:
        options = {role: f"--{role}-column" for role in Columns._fields}
        named = [options[role] for role, column in zip(Columns._fields, columns, strict=True) if column in missing]
        raise ToolkitError(
            f"{name} has no column {', '.join(repr(str(column)) for column in missing)}; "
            f"it has {', '.join(map(repr, present))}",
            expected=f"columns {', '.join(map(str, needed))}", fix=" and ".join(f"{option} NAME" for option in named),
        )  # fmt: skip
    if twice := next((column for column in needed if needed.count(column) > 1), None):
        roles = [role for role, column in zip(Columns._fields, columns, strict=True) if column == twice]
        raise ToolkitError(
            f"{name}: {' and '.join(roles)} are both the column {twice!r}; it has {', '.join(map(repr, present))}",
            expected="a column for each", fix=" or ".join(f"--{role}-column NAME" for role in roles),
        )  # fmt: skip
