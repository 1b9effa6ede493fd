"""Columns of the files that are scored: which hold the texts, and the types of the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.console import echo
from toolkit.data.columns import Columns, DataOptions, choose_columns, guesses
from toolkit.data.encodings import without_gz
from toolkit.data.hub_datasets import HubSplit
from toolkit.data.readers import FILE_SUFFIXES, Column, Row, format_remark, header_of, read_rows
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

READABLE = (".txt", *FILE_SUFFIXES, ".txt.gz")
PEEK_ROWS = 1024  # of which columns a file has; a JSON line may leave some out
Types = dict[str, pa.DataType]
Source = Path | HubSplit  # of rows


@dataclass(frozen=True)
class TextColumns:
    """The columns of a file that hold texts.

    Attributes:
        text, pair: of the text, and of the second one of a pair.
        header: whether the file names its columns; else they are numbered.
    """

    text: Column
    pair: Column | None
    header: bool = True

    @property
    def names(self) -> tuple[Column, ...]:
        """The text columns, in their order."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


def find_text_columns(
    source: Source, task: Task | None, *, text: str | None = None, pair: str | None = None
) -> TextColumns:
    """Find the columns of texts: those that the options name, in .tsv the task's own, else the likeliest names.

    Args:
        source: of the rows.
        task: of the model; None where the model does not say whether it reads pairs: then the file decides.
        text, pair: names that the options give.

    Raises:
        ToolkitError: a column is missing, or pairs for a task of single texts.
    """
    names, pairs = column_names(source), None if task is None else task.pair_column is not None
    official = Columns(*task.tsv) if task is not None and _suffix(source) == ".tsv" else None
    if official and isinstance(official.text, int):
        if text is None and "text" not in names:
            return TextColumns(official.text, official.pair if pairs else None, header=False)
        official = None
    if not names:
        return TextColumns(text or "text", (pair or "text_pair") if pairs else None)
    if pairs is False and (pair is not None or (text is None and "text_pair" in names)):
        raise ToolkitError(
            f"{source} holds pairs of texts, in {pair or 'text_pair'!r}", expected="single texts, as the model reads",
            fix="--text-column NAME, the column to read",
        )  # fmt: skip
    options = DataOptions(text_column=text, pair_column=pair)
    columns = choose_columns(str(source), names, pairs=pairs, options=options, official=official, labelled=False)
    remarks = format_remark(source) if isinstance(source, Path) else []
    for remark in (*remarks, *guesses(str(source), columns, options, official)):
        echo(remark)
    return TextColumns(columns.text, columns.pair)


def column_names(source: Source) -> list[str]:
    """List the columns that a file or split names; of JSON those of its first PEEK_ROWS rows."""
    if isinstance(source, HubSplit):
        return source.columns
    suffix = _suffix(source)
    if suffix == ".parquet":
        return list(_parquet_schema(source).names)
    if suffix in (".csv", ".tsv"):
        return header_of(source)
    rows = itertools.islice(read_rows(source), PEEK_ROWS)
    return list(dict.fromkeys(str(name) for row in rows for name in row.cells))


def types_of(source: Source, rows: Sequence[Row]) -> Types:
    """Give the type of each column of some rows: the file's own in Parquet, strings in CSV, TSV and text."""
    suffix = _suffix(source)
    if isinstance(source, Path) and suffix == ".parquet":
        return {field.name: field.type for field in _parquet_schema(source)}
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    if suffix not in (".jsonl", ".json", ""):
        return {str(name): pa.string() for name in names}
    return {str(name): _inferred(row.cells.get(name) for row in rows) for name in names}


def merge_types(types: Types, more: Types) -> Types:
    """Give a type that holds both for each column; a column of types that no other type holds is text."""
    merged = types | {name: kind for name, kind in more.items() if name not in types}
    for name, other in more.items():
        own = merged[name]
        if pa.types.is_null(own) or pa.types.is_null(other):
            merged[name] = other if pa.types.is_null(own) else own
        elif own != other:
            merged[name] = _common(own, other)
    return merged


def column_array(values: Iterable[Any], kind: pa.DataType, place: str) -> pa.Array:
    """Make an array of a column; a text column takes other values as JSON.

    Raises:
        ToolkitError: values that do not fit the type.
    """
    if pa.types.is_string(kind):
        values = map(_text, values)
    elif pa.types.is_floating(kind):
        values = (None if value is None else float(value) for value in values)
    try:
        return pa.array(list(values), kind)
    except (pa.ArrowException, UnicodeEncodeError, ValueError, TypeError, OverflowError) as error:
        raise ToolkitError(f"{place} cannot be written: {error}", expected=f"values of the type {kind}") from None


def _suffix(source: Source) -> str:
    """Give the suffix of a file, without .gz; "" of a split."""
    return without_gz(source).suffix if isinstance(source, Path) else ""


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except pa.ArrowException as error:
        raise ToolkitError(f"{path} is not Parquet that can be read: {error}") from None


def _inferred(values: Iterator[Any]) -> pa.DataType:
    try:
        return pa.array(list(values)).type
    except (pa.ArrowException, UnicodeEncodeError, TypeError, OverflowError):
        return pa.string()


def _common(own: pa.DataType, other: pa.DataType) -> pa.DataType:
    fields = [pa.schema([("column", kind)]) for kind in (own, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="backslashreplace").decode()  # JSON may hold half a surrogate pair
