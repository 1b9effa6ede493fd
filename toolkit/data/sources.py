"""Where the rows of a split lie: a folder with a file for each split, one file with all of them, or the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from toolkit.data.hub_datasets import HUB, hub_splits, hub_table
from toolkit.data.readers import FILE_SUFFIXES, Column, Row, format_remark, read_rows
from toolkit.errors import ToolkitError
from toolkit.reports.table import percent
from toolkit.tasks import TASKS

STEMS = {"dev": ("dev", "validation", "valid", "dev_matched"), "train": ("train",)}
DEV_SHARE = 0.1  # of a file that holds both splits
NAMED_AFTER = 1000  # rows whose columns are those of a table: a row that is too short is a bad row
WHOLE = "all"  # as a split: every row of a single file


@dataclass(frozen=True)
class Table:
    """Rows that can be read from the beginning again and again.

    Attributes:
        name: file or data set, for messages and reports.
        rows: starts reading.
        official: its columns may be the official ones of a GLUE task.
        share: fraction of the rows that is dev, where the table holds both splits; None where it is one split.
        remarks: lines for the user about how the table is read.
    """

    name: str
    rows: Callable[[], Iterator[Row]]
    official: bool = False
    share: float | None = None
    remarks: tuple[str, ...] = ()

    def columns(self) -> list[Column]:
        """List the columns that any of the first rows has."""
        return list(dict.fromkeys(column for row in islice(self.rows(), NAMED_AFTER) for column in row.cells))


def find_table(data: str | Path, split: str, *, share: float | None = None, numbered: bool = False) -> Table:
    """Find the rows of a split.

    Args:
        data: a folder, a file, or hub:NAME.
        split: "train", "dev" or another name, or WHOLE for each row of a file.
        share: fraction of a file that holds both splits, or of a folder's train file, that is dev.
        numbered: a .tsv file has no header.

    Raises:
        ToolkitError: nothing there, or more than one file of a split.
    """
    if str(data).startswith(HUB):
        return _hub_split(str(data), split, share)
    path = Path(data)
    if path.is_file():
        return _file_split(path, split, share)
    if split in STEMS and share is not None:
        if (dev := _find(path, "dev")) is not None:
            raise ToolkitError(f"--dev-share {share}: {path} has {dev.name} for dev", fix="leave --dev-share out")
        return _file_split(_needed(path, "train"), split, share)
    return file_table(_needed(path, split), numbered=numbered)


def has_split(data: str | Path, split: str) -> bool:
    """Return whether a folder holds a file of a split; a file and the hub are taken to have one."""
    path = Path(data)
    return not path.is_dir() or _find(path, split) is not None


def data_name(data: str | Path) -> str:
    """Name a task by its data: the folder's, the file's, or the data set's name, which no task of the table has."""
    name = str(data).removeprefix(HUB).split(":")[0]
    path = Path(name).resolve() if Path(name).exists() else Path(name)
    name = path.name.partition(".")[0] or path.name if path.is_file() else path.name
    return f"my-{name}" if name in (*TASKS, "auto", "") else name


def has_test(data: str | Path) -> bool:
    """Return whether a folder or a data set of the hub has a test split; one file has none."""
    if str(data).startswith(HUB):
        return "test" in hub_splits(str(data))
    return Path(data).is_dir() and _find(Path(data), "test") is not None


def is_dev(text: object, share: float) -> bool:
    """Tell the split of a row by its text, so that equal texts are on the same side, and always on that one."""
    digest = hashlib.sha256(str(text).encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def file_table(path: Path, *, numbered: bool = False) -> Table:
    """Give the rows of a file; `numbered` is for a .tsv file without a header."""
    numbered = numbered and path.suffix == ".tsv"
    remarks = tuple(format_remark(path, header=not numbered))
    return Table(str(path), lambda: read_rows(path, header=not numbered), path.suffix == ".tsv", remarks=remarks)


def _file_split(path: Path, split: str, share: float | None) -> Table:
    if not path.name.endswith(FILE_SUFFIXES):
        raise ToolkitError(f"{path} is no table that is read here", expected=f"one of {', '.join(FILE_SUFFIXES)}")
    table = file_table(path)
    if split == WHOLE:
        return table
    if split not in STEMS:
        raise ToolkitError(f"{path} is one file: it has no split {split!r}", expected=f"train, dev or {WHOLE}")
    return _shared(table, split, share)


def _shared(table: Table, split: str, share: float | None) -> Table:
    """Make a table one that holds both splits; loading dev says so where the user has not."""
    remark = f"{table.name}: dev is {percent(DEV_SHARE, 0)} of its rows, drawn by their text (else: --dev-share)"
    said = (remark,) if share is None and split == "dev" else ()
    return replace(table, share=share or DEV_SHARE, remarks=(*table.remarks, *said))


def _hub_split(data: str, split: str, share: float | None) -> Table:
    splits = hub_splits(data)
    names = {kind: next((stem for stem in stems if stem in splits), None) for kind, stems in STEMS.items()}
    if share is not None and names["dev"]:
        raise ToolkitError(f"--dev-share {share}: {data} has the split {names['dev']}", fix="leave --dev-share out")
    if split in STEMS and names["train"] and not names["dev"]:
        return _shared(Table(data, hub_table(data, names["train"])), split, share)
    name = names.get(split, split)
    if name not in splits:
        raise ToolkitError(f"{data} has no split {split!r}", expected=f"one of {', '.join(splits)}")
    return Table(data, hub_table(data, str(name)))


def _find(folder: Path, split: str) -> Path | None:
    if not folder.is_dir():
        raise ToolkitError(
            f"--data {folder}: no such file or directory",
            expected="a folder with train and dev files, a file, or hub:NAME",
        )
    stems = STEMS.get(split, (split,))
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in FILE_SUFFIXES)
    paths = list(filter(Path.is_file, candidates))
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise ToolkitError(f"{folder} holds {names}", expected=f"one {split} file", fix="move all but one elsewhere")
    return paths[0] if paths else None


def _needed(folder: Path, split: str) -> Path:
    path = _find(folder, split)
    if path is not None:
        return path
    if split == WHOLE:
        raise ToolkitError(f"{folder} is a folder", expected="one file of labelled rows")
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    stem = STEMS.get(split, (split,))[0]
    fix = "--dev-share 0.1 takes dev out of train" if split == "dev" else ""
    raise ToolkitError(
        f"{folder} has no {split} file; it holds {present}",
        expected=" or ".join(f"{stem}{suffix}" for suffix in FILE_SUFFIXES), fix=fix,
    )  # fmt: skip
