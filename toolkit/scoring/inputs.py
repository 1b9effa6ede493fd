"""The texts to score: files read in blocks of rows, once to check them all and once more to score them."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from toolkit.data.readers import Row, read_rows
from toolkit.data.row_problems import RowProblems
from toolkit.errors import ToolkitError, raise_problems
from toolkit.files import FileRecord, file_record
from toolkit.scoring.columns import (
    READABLE,
    TextColumns,
    Types,
    column_array,
    find_text_columns,
    merge_types,
    types_of,
)
from toolkit.tasks import Task

# A block is scored by one thread and kept as one part. Its rows are sorted by length, so a small one pads more; a
# large one leaves the other threads idle for longer at the end.
BLOCK_ROWS, BLOCK_CHARACTERS = 2048, 4 * 2**20
MAX_LISTED = 1000  # problems of a file after which its reading ends


@dataclass(frozen=True)
class Block:
    """Rows that are scored together.

    Attributes:
        number: of the block, over all files, from 0.
        file: that the rows come from.
        rows: at most BLOCK_ROWS rows without problems.
    """

    number: int
    file: InputFile
    rows: list[Row]

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Give the texts and, for pairs, the second texts."""
        first, *second = ([row.cells[name] for row in self.rows] for name in self.file.columns.names)
        return first, second[0] if second else None

    def table(self, types: Types) -> pa.Table:
        """Give all columns of the rows; one that a row lacks is null."""
        keys = {str(name): name for row in self.rows for name in row.cells}
        place = f"{self.file.path} lines {self.rows[0].line} to {self.rows[-1].line}, column"
        return pa.table({
            name: column_array((row.cells.get(keys.get(name, name)) for row in self.rows), kind, f"{place} {name!r}")
            for name, kind in types.items()
        })  # fmt: skip


@dataclass(frozen=True)
class InputFile:
    """A file of texts."""

    path: Path
    columns: TextColumns
    block_rows: int | None = None  # None for BLOCK_ROWS

    def blocks(self) -> Iterator[list[Row]]:
        """Read the rows in blocks: at most `block_rows`, and about BLOCK_CHARACTERS of text."""
        rows: list[Row] = []
        characters = 0
        for row in read_rows(self.path, header=self.columns.header):
            rows.append(row)
            characters += sum(len(cell) for cell in row.cells.values() if isinstance(cell, str))
            if len(rows) == (self.block_rows or BLOCK_ROWS) or characters >= BLOCK_CHARACTERS:
                yield rows
                rows, characters = [], 0
        if rows:
            yield rows


@dataclass(frozen=True)
class Survey:
    """Everything to know about the files before the first text is scored.

    Attributes:
        files: in their order.
        rows: to score, of all files.
        types: of each column, over all files.
        records: size and SHA-256 of each file.
        skip_bad: rows that cannot be used are left out.
    """

    files: Sequence[InputFile]
    rows: int
    types: Types
    records: list[FileRecord]
    skip_bad: bool

    def blocks(self) -> Iterator[Block]:
        """Read all files again, in the same blocks every time."""
        numbers = itertools.count()
        for file in self.files:
            for rows in file.blocks():
                kept = [row for row in rows if not any(row.problems(file.columns.names))] if self.skip_bad else rows
                if kept:
                    yield Block(next(numbers), file, kept)

    def check_unchanged(self, fix: str) -> None:
        """Refuse files that were written to while they were scored.

        Raises:
            ToolkitError: names the file.
        """
        for file, record in zip(self.files, self.records, strict=True):
            if not file.path.is_file() or file_record(file.path) != record:
                raise ToolkitError(
                    f"{file.path} has changed while it was scored", expected="the same file until the end", fix=fix
                )


def find_files(patterns: Sequence[str], out: Path) -> list[Path]:
    """Give the files that paths and globs name, those of a glob by name.

    Raises:
        ToolkitError: a path or glob names no file, a suffix that is not read, or the file to write.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        names = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise ToolkitError(f"--input {pattern}: no such file", expected=f"files that end in {', '.join(READABLE)}")
        paths |= dict.fromkeys(files)
    strange = [f"{path}: expected {', '.join(READABLE)}" for path in paths if not path.name.endswith(READABLE)]
    raise_problems(strange, subject="these files cannot be read")
    if any(path.resolve() == out.resolve() for path in paths):
        raise ToolkitError(f"--out {out} is one of the files to score", fix="another --out")
    return list(paths)


def survey(
    paths: Sequence[Path],
    task: Task | None,
    *,
    text: str | None,
    pair: str | None,
    skip_bad: bool,
    block_rows: int | None = None,
) -> Survey:
    """Read every file once: count and check its rows, and learn the types of its columns.

    Args:
        paths: of the files.
        task: of the model; None where it does not say whether it reads pairs.
        text, pair: columns that the options name.
        skip_bad: leave bad rows out, and say how many.
        block_rows: rows of a block, at most; None takes BLOCK_ROWS.

    Raises:
        ToolkitError: columns that are missing, rows that cannot be used, or no rows at all; nothing is scored yet.
    """
    files = [InputFile(path, find_text_columns(path, task, text=text, pair=pair), block_rows) for path in paths]
    if len({file.columns.pair is None for file in files}) > 1:
        raise ToolkitError("some files hold pairs of texts and some single texts", fix="one command for each kind")
    types, rows = Types(), 0
    for file in files:
        problems = RowProblems(str(file.path), skip_bad=skip_bad)
        for block in file.blocks():
            types = merge_types(types, types_of(file.path, block))
            rows += sum(problems.is_good(row.problems(file.columns.names)) for row in block)
            if problems.count >= MAX_LISTED and not skip_bad:
                break
        problems.settle()
    if not rows:
        raise ToolkitError(f"there is nothing to score in {', '.join(map(str, paths[:5]))}", expected="a text a row")
    types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types.items()}
    return Survey(files, rows, types, [file_record(path) for path in paths], skip_bad)
