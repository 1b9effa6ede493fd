"""The texts to score: files and splits of the hub, read in blocks, once to check all and once more to score them."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from toolkit.data.hub_datasets import HUB, HubSplit, hub_split
from toolkit.data.readers import Row, read_rows
from toolkit.data.row_problems import RowProblems
from toolkit.errors import ToolkitError, raise_problems
from toolkit.files import file_record
from toolkit.scoring.columns import (
    READABLE,
    Source,
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
BLOCK_ROWS, BLOCK_CHARACTERS = 3072, 4 * 2**20
MAX_LISTED = 1000  # problems of a file after which its reading ends


@dataclass(frozen=True)
class Block:
    """Rows that are scored together.

    Attributes:
        number: of the block, over all files, from 0.
        start: number of its first row, likewise.
        origin: that the rows come from.
        rows: at most BLOCK_ROWS rows without problems.
    """

    number: int
    start: int
    origin: TextTable
    rows: list[Row]

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Give the texts and, for pairs, the second texts."""
        first, *second = ([row.cells[name] for row in self.rows] for name in self.origin.columns.names)
        return first, second[0] if second else None

    def table(self, types: Types) -> pa.Table:
        """Give all columns of the rows; one that a row lacks is null."""
        keys = {str(name): name for row in self.rows for name in row.cells}
        place = f"{self.origin.source} lines {self.rows[0].line} to {self.rows[-1].line}, column"
        return pa.table({
            name: column_array((row.cells.get(keys.get(name, name)) for row in self.rows), kind, f"{place} {name!r}")
            for name, kind in types.items()
        })  # fmt: skip


@dataclass(frozen=True)
class TextTable:
    """A file or split with its columns of texts."""

    source: Source
    columns: TextColumns
    block_rows: int

    def blocks(self) -> Iterator[list[Row]]:
        """Read the rows in blocks: at most `block_rows`, and about BLOCK_CHARACTERS of text."""
        rows: list[Row] = []
        characters = 0
        source = self.source
        read = source.rows() if isinstance(source, HubSplit) else read_rows(source, header=self.columns.header)
        for row in read:
            rows.append(row)
            characters += sum(len(cell) for cell in row.cells.values() if isinstance(cell, str))
            if len(rows) == self.block_rows or characters >= BLOCK_CHARACTERS:
                yield rows
                rows, characters = [], 0
        if rows:
            yield rows


@dataclass(frozen=True)
class Survey:
    """Everything to know about the files before the first text is scored.

    Attributes:
        tables: in their order.
        rows: to score, of all files.
        block_count: blocks that they make.
        types: of each column, over all files.
        digests: SHA-256 of each.
        skip_bad: rows that cannot be used are left out.
    """

    tables: Sequence[TextTable]
    rows: int
    block_count: int
    types: Types
    digests: list[str]
    skip_bad: bool

    def blocks(self) -> Iterator[Block]:
        """Read all files again, in the same blocks every time."""
        numbers, start = itertools.count(), 0
        for table in self.tables:
            for rows in table.blocks():
                kept = [row for row in rows if not any(row.problems(table.columns.names))] if self.skip_bad else rows
                if kept:
                    yield Block(next(numbers), start, table, kept)
                    start += len(kept)

    def check_unchanged(self, fix: str) -> None:
        """Refuse files that were written to while they were scored.

        Raises:
            ToolkitError: names the file.
        """
        for table, digest in zip(self.tables, self.digests, strict=True):
            if _digest(table.source) != digest:
                raise ToolkitError(
                    f"{table.source} has changed while it was scored", expected="the same until the end", fix=fix
                )


def find_sources(patterns: Sequence[str], out: Path) -> list[Source]:
    """Give the splits that hub:NAME names, and the files that paths and globs name, those of a glob by name.

    Raises:
        ToolkitError: a path or glob names no file, a suffix that is not read, or the file to write; or `hub_split`'s.
    """
    sources: dict[Source, None] = {}
    for pattern in dict.fromkeys(patterns):
        if pattern.startswith(HUB):
            sources[hub_split(pattern)] = None
            continue
        names = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise ToolkitError(f"--input {pattern}: no such file", expected=f"files that end in {', '.join(READABLE)}")
        sources |= dict.fromkeys(files)
    paths = [source for source in sources if isinstance(source, Path)]
    strange = [f"{path}: expected {', '.join(READABLE)}" for path in paths if not path.name.endswith(READABLE)]
    raise_problems(strange, subject="these files cannot be read")
    if any(path.resolve() == out.resolve() for path in paths):
        raise ToolkitError(f"--out {out} is one of the files to score", fix="another --out")
    return list(sources)


def survey(
    sources: Sequence[Source],
    task: Task | None,
    *,
    text: str | None,
    pair: str | None,
    skip_bad: bool,
    block_rows: int | None = None,
) -> Survey:
    """Read everything once: count and check its rows, and learn the types of the columns.

    Args:
        sources: files and splits.
        task: of the model; None where it does not say whether it reads pairs.
        text, pair: columns that the options name.
        skip_bad: leave bad rows out, and say how many.
        block_rows: rows of a block, at most; None takes BLOCK_ROWS.

    Raises:
        ToolkitError: columns that are missing, rows that cannot be used, or no rows at all; nothing is scored yet.
    """
    tables = [
        TextTable(source, find_text_columns(source, task, text=text, pair=pair), block_rows or BLOCK_ROWS)
        for source in sources
    ]
    if len({table.columns.pair is None for table in tables}) > 1:
        raise ToolkitError("some files hold pairs of texts and some single texts", fix="one command for each kind")
    types, rows, count = Types(), 0, 0
    for table in tables:
        problems = RowProblems(str(table.source), skip_bad=skip_bad)
        for block in table.blocks():
            types = merge_types(types, types_of(table.source, block))
            good = sum(problems.is_good(row.problems(table.columns.names)) for row in block)
            rows, count = rows + good, count + (good > 0)
            if problems.count >= MAX_LISTED and not skip_bad:
                break
        problems.settle()
    if not rows:
        raise ToolkitError(f"there is nothing to score in {', '.join(map(str, sources[:5]))}", expected="a text a row")
    types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types.items()}
    return Survey(tables, rows, count, types, [_digest(source) for source in sources], skip_bad)


def _digest(source: Source) -> str:
    """Hash a file or split; "" for a file that is gone."""
    if isinstance(source, HubSplit):
        return source.digest()
    return file_record(source)["sha256"] if source.is_file() else ""
