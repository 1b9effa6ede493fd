"""Scored blocks as parts in OUT.partial, from which a killed command goes on, and what they become.

A part is a Parquet file of one block, written under another name and renamed when it is complete. `command.json`
beside them says what they come from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from toolkit.errors import ToolkitError
from toolkit.files import COMMAND, atomic_directory, atomic_file, canonical_json, check_same_command, sole_writer

PART = "part-*.parquet"
TOGETHER = 16  # parts that make a row group of the joined Parquet file


class Parts:
    """The parts of a command, as a context that no other process enters; a clean exit removes them.

    Args:
        out: the file that they are joined to, or the folder that they are moved to.
        command: options and digests of the inputs, by name.

    Raises:
        ToolkitError: OUT.partial holds parts of another command, or another process writes there.
    """

    def __init__(self, out: Path, command: Mapping[str, Any]) -> None:
        self.out, self.folder = out, out.with_name(f"{out.name}.partial")
        self._command, self._stack = json.loads(canonical_json(command)), ExitStack()
        if self.done():
            check_same_command(
                self.folder, self._command, holds="scores", expected="the same model, files and options, to go on"
            )

    def __enter__(self) -> Self:
        self._stack.enter_context(sole_writer(self.out))
        self.folder.mkdir(exist_ok=True)
        with atomic_file(self.folder / COMMAND) as partial:
            partial.write_bytes(canonical_json(self._command))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._stack.__exit__(kind, error, at)

    def done(self) -> dict[int, Path]:
        """Give the parts that are complete, by the number of their block."""
        paths = self.folder.glob(PART)
        return {int(number): path for path in paths if (number := path.stem.removeprefix("part-")).isdecimal()}

    def write(self, number: int, table: pa.Table) -> None:
        """Write a block; it is whole or not there."""
        with atomic_file(self.folder / f"part-{number:09d}.parquet") as partial:
            pq.write_table(table, partial, compression="zstd")

    def rows(self) -> int:
        """Count the rows of the complete parts."""
        return sum(self._opened(path).metadata.num_rows for path in self.done().values())

    def join(self, blocks: int) -> None:
        """Write the blocks 0 to `blocks` - 1 to `out`, in their order; a folder takes the parts themselves.

        Raises:
            ToolkitError: a part is damaged, or `out` cannot be written.
        """
        parts = self.done()
        paths = [parts[number] for number in range(blocks)]
        if not self.out.suffix:
            with atomic_directory(self.out) as staging:
                for path in paths:
                    path.rename(staging / path.name)
            return
        write = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}[self.out.suffix]
        schema = self._opened(paths[0]).schema_arrow
        with atomic_file(self.out) as partial:
            write(partial, schema, self._tables(paths))

    def _tables(self, paths: Sequence[Path]) -> Iterator[pa.Table]:
        """Read the parts, TOGETHER at a time."""
        for start in range(0, len(paths), TOGETHER):
            yield pa.concat_tables([self._opened(path).read() for path in paths[start : start + TOGETHER]])

    def _opened(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise ToolkitError(
                f"{path} is damaged: {error}", fix=f"remove it and give the same command again: rm {path}"
            ) from None


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _write_csv(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    """Write CSV; lists and objects are JSON in their cells."""
    flat = pa.schema([pa.field(field.name, pa.string()) if _nested(field.type) else field for field in schema])
    with pyarrow.csv.CSVWriter(path, flat.remove_metadata()) as writer:
        for table in tables:
            writer.write_table(pa.table([_flat(column) for column in table.columns], schema=flat.remove_metadata()))


def _write_jsonl(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    del schema
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist())


def _nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind))


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if not _nested(column.type):
        return column
    return pa.array([None if cell is None else json.dumps(cell, ensure_ascii=False, default=str)
                     for cell in column.to_pylist()], pa.string())  # fmt: skip
