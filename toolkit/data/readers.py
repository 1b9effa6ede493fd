"""Readers of CSV, TSV, JSON, JSON lines and Parquet; each row has its line number, for error messages."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from toolkit.data.encodings import encoding_of, open_text, without_gz
from toolkit.data.row_problems import RowProblem
from toolkit.errors import ToolkitError, require_packages

if TYPE_CHECKING:
    import _csv

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
FILE_SUFFIXES = (*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES if suffix != ".parquet"))
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MAX_JSON_BYTES = 1 << 30  # one JSON value is read as a whole; JSON lines have no limit
PARQUET_ROWS, PARQUET_BUFFER = 1024, 2**20  # rows read together; bytes that each column reads ahead
Column = str | int  # its name, or its number from 0 in a file without a header


class Row(NamedTuple):
    """One row of a table: its line number in the file, its cells by column, and cells that no column is there for."""

    line: int
    cells: dict[Column, Any]
    extra: Sequence[str] = ()

    @property
    def overflows(self) -> bool:
        """Tell whether cells without a column hold text, as the rest of a text after a comma without quotes."""
        return any(map(str.strip, self.extra))

    def problems(self, columns: Iterable[Column]) -> Iterator[RowProblem]:
        """List cells that no column is there for, and columns that hold no text."""
        if self.overflows:
            cells = ", ".join(map(repr, self.extra))
            yield RowProblem(self.line, "", f"{len(self.extra)} more cells than columns: {cells}")
        for column in columns:
            if not is_text(self.cells.get(column)):
                yield RowProblem(self.line, f"column {column!r}", repr(self.cells.get(column)), "text")


def read_rows(path: Path, *, header: bool = True) -> Iterator[Row]:
    """Read a table by its suffix, row by row. CSV has quotes; in TSV, as in GLUE, a quote is a plain character.

    A .txt file is a table with the column text, a row for each line that is not blank.

    Args:
        path: ends in .txt, .txt.gz or one of FILE_SUFFIXES; `open_text` tells its encoding.
        header: the first line of CSV or TSV names the columns; else they are numbered from 0.

    Raises:
        ToolkitError: not text, not JSON, not Parquet; names the line where there is one.
    """
    suffix = without_gz(path).suffix
    if suffix == ".parquet":
        yield from _read_parquet(path)
        return
    with open_text(path) as file:
        if suffix == ".txt":
            yield from (Row(i, {"text": line.strip()}) for i, line in enumerate(file, start=1) if line.strip())
        elif suffix == ".json":
            yield from _read_json(path, file)
        else:
            yield from _read_jsonl(path, file) if suffix == ".jsonl" else _read_delimited(path, file, header)


def delimiter_of(path: Path, *, header: bool = True) -> str:
    """Tell what separates the cells of a CSV or TSV file: what its suffix says, or where that splits no header.

    A header that commas do not split, and semicolons, tabs or bars do, is theirs; a .tsv file may have commas.
    """
    usual = "\t" if without_gz(path).suffix == ".tsv" else ","
    with open_text(path) as file:
        line = file.readline(csv.field_size_limit()) if header else ""
    cells = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in DELIMITERS}
    return usual if cells[usual] > 1 else max(DELIMITERS, key=lambda mark: (cells[mark], mark == usual))


def header_of(path: Path) -> list[str]:
    """List the columns that the first line of a CSV or TSV file names."""
    with open_text(path) as file:
        return next(_cells(path, file, delimiter_of(path)), [])


def format_remark(path: Path, *, header: bool = True) -> list[str]:
    """Say in a line what separates the cells of a file where its suffix says otherwise, and what encodes it."""
    usual, remarks = {".csv": ",", ".tsv": "\t"}.get(without_gz(path).suffix), []
    if path.suffix != ".parquet" and not (encoding := encoding_of(path)).startswith("utf-8"):
        remarks.append(f"{path}: read as {encoding.upper()}")
    if usual and (mark := delimiter_of(path, header=header)) != usual:
        remarks.append(f"{path}: {DELIMITERS[mark]} separate its cells")
    return remarks


def is_text(value: Any) -> bool:
    """Return whether a cell holds text that is not blank and that a tokenizer takes."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        return False
    return True


def _read_jsonl(path: Path, file: TextIO) -> Iterator[Row]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ToolkitError(f"{path} line {line}: not JSON ({error})", expected="one object a line") from None
        if not isinstance(row, dict):
            raise ToolkitError(f"{path} line {line}: {type(row).__name__}", expected="one JSON object a line")
        yield Row(line, row)


def _read_json(path: Path, file: TextIO) -> Iterator[Row]:
    """Read a list of objects, an object with such a list alone, or JSON lines under the name of .json."""
    text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise ToolkitError(f"{path} is too large for one JSON value", expected="JSON lines, .jsonl: one object a line")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        file.seek(0)
        yield from _read_jsonl(path, file)
        return
    lists = [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else [value]
    rows = lists[0] if len(lists) == 1 else [value]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ToolkitError(f"{path} is not a list of objects", expected='[{"text": "...", "label": "..."}, ...]')
    yield from itertools.starmap(Row, enumerate(rows, start=1))


def _cells(path: Path, file: TextIO, delimiter: str) -> _csv.Reader:
    csv.field_size_limit(sys.maxsize)
    plain_quotes = without_gz(path).suffix == ".tsv" and delimiter == "\t"
    return csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain_quotes else csv.QUOTE_MINIMAL)


def _read_delimited(path: Path, file: TextIO, header: bool) -> Iterator[Row]:
    reader = _cells(path, file, delimiter_of(path, header=header))
    names: Sequence[Column] = next(reader, []) if header else []
    if twice := sorted({repr(name) for name in names if name and names.count(name) > 1}):
        raise ToolkitError(f"{path} has more than one column {', '.join(twice)}", expected="each name once")
    for cells in filter(None, reader):
        names = names or range(len(cells))
        yield Row(reader.line_num, dict(zip(names, cells, strict=False)), cells[len(names) :])


def _read_parquet(path: Path) -> Iterator[Row]:
    require_packages("pyarrow", purpose=f"reading {path.name}")
    import pyarrow.lib
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER) as file:
            batches = file.iter_batches(PARQUET_ROWS)
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from itertools.starmap(Row, enumerate(rows, start=1))
    except pyarrow.lib.ArrowException as error:
        raise ToolkitError(f"{path} is not Parquet that can be read: {error}") from None
