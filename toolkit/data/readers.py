"""Readers of CSV, TSV, JSON lines, Parquet and plain text; each row has its line number, for error messages."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from toolkit.console import echo
from toolkit.errors import ToolkitError, raise_problems, require_packages

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PARQUET_ROWS, PARQUET_BUFFER = 1024, 2**20  # rows read together; bytes that each column reads ahead
MEND = "mend these rows, or --skip-bad-rows to leave them out; nothing was skipped"
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

    def problems(self, columns: Iterable[Column]) -> Iterator[str]:
        """List cells that no column is there for, and columns that hold no text."""
        if self.overflows:
            yield f"line {self.line}: {len(self.extra)} more cells than columns: {', '.join(map(repr, self.extra))}"
        for column in columns:
            if not is_text(self.cells.get(column)):
                yield f"line {self.line}, column {column!r}: {self.cells.get(column)!r}, expected text"


def read_rows(path: Path, *, header: bool = True) -> Iterator[Row]:
    """Read a table by its suffix, row by row. CSV has quotes; in TSV, as in GLUE, a quote is a plain character.

    A .txt file is a table with the column text, a row for each line that is not blank.

    Args:
        path: ends in .txt or one of SUFFIXES; text is UTF-8, with or without a byte-order mark.
        header: the first line of CSV or TSV names the columns; else they are numbered from 0.

    Raises:
        ToolkitError: not UTF-8, not JSON, not Parquet; names the line where there is one.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".txt":
                yield from (Row(i, {"text": line.strip()}) for i, line in enumerate(file, start=1) if line.strip())
            else:
                yield from _read_jsonl(path, file) if path.suffix == ".jsonl" else _read_delimited(path, file, header)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def good_rows(path: Path, rows: Sequence[Row], problems: Sequence[Sequence[str]], *, skip_bad: bool) -> list[int]:
    """Give the numbers of the rows without problems; bad rows end the command, or are left out and counted.

    Args:
        path: the file, for messages.
        rows: all rows.
        problems: those of each row, in words.
        skip_bad: leave bad rows out.

    Raises:
        ToolkitError: bad rows that are not to be left out, or none but bad ones; the first twenty problems are listed.
    """
    good = [number for number, row_problems in enumerate(problems) if not row_problems]
    bad = list(itertools.chain.from_iterable(problems))
    if bad and not (skip_bad and good):
        raise_problems(bad, subject=str(path), fix=MEND if not skip_bad else "")
    if bad:
        echo(f"{path}: left out {len(rows) - len(good):,} of {len(rows):,} rows, the first for {bad[0]}")
    return good


def read_texts(path: Path, *, pairs: bool, skip_bad: bool = False) -> tuple[list[str], list[str] | None]:
    """Read text without labels: lines of a .txt file, or the columns text and, for pairs, text_pair of a table.

    Empty lines of a .txt file are skipped; an empty cell of a table is a problem, or with `skip_bad` its row left out.

    Raises:
        ToolkitError: no such file, a suffix or columns that do not fit, or cells that hold no text.
    """
    if not path.is_file():
        raise ToolkitError(f"{path}: no such file", expected="text without labels")
    if path.suffix == ".txt" and not pairs:
        return [str(row.cells["text"]) for row in read_rows(path)], None
    if path.suffix not in SUFFIXES:
        columns = "text and text_pair" if pairs else "text"
        raise ToolkitError(
            f"{path} cannot be read as text without labels",
            expected=f"{', '.join(SUFFIXES)} with the columns {columns}" + ("" if pairs else ", or .txt, one a line"),
        )
    rows = list(read_rows(path))
    if not pairs and any("text_pair" in row.cells for row in rows[:1]):
        raise ToolkitError(f"{path} holds pairs of texts", expected="single texts, as the task has")
    names = ("text", "text_pair") if pairs else ("text",)
    missing = [name for name in names if rows and not any(name in row.cells for row in rows)]
    if missing:
        raise ToolkitError(
            f"{path} has no column {', '.join(map(repr, missing))}", expected=f"columns {', '.join(names)}"
        )
    good = good_rows(path, rows, [list(row.problems(names)) for row in rows], skip_bad=skip_bad)
    first, second = ([rows[number].cells[name] for number in good] for name in ("text", names[-1]))
    return first, second if pairs else None


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
        except ValueError as error:
            raise ToolkitError(f"{path} line {line}: not JSON ({error})", expected="one object a line") from None
        if not isinstance(row, dict):
            raise ToolkitError(f"{path} line {line}: {type(row).__name__}", expected="one JSON object a line")
        yield Row(line, row)


def _read_delimited(path: Path, file: TextIO, header: bool) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    tsv = path.suffix == ".tsv"
    reader = csv.reader(file, delimiter="\t" if tsv else ",", quoting=csv.QUOTE_NONE if tsv else csv.QUOTE_MINIMAL)
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
            cells = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from itertools.starmap(Row, enumerate(cells, start=1))
    except pyarrow.lib.ArrowException as error:
        raise ToolkitError(f"{path} is not Parquet that can be read: {error}") from None


def _not_utf8(path: Path) -> ToolkitError:
    raw = path.read_bytes()
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return ToolkitError(
            f"{path} is not UTF-8: line {line} holds the byte {raw[error.start]:#04x}",
            fix=f"iconv -f WINDOWS-1252 -t UTF-8 {path.name}, or from whatever its encoding is",
        )
    return ToolkitError(f"{path} changed while it was read", fix="run the command again")
