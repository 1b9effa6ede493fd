"""Data sets by name, through the library `datasets`: of the hub, of its cache on this machine, or a local directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.console import quiet_libraries
from toolkit.data.hub import UNREACHABLE, hub_answers
from toolkit.data.readers import Row
from toolkit.errors import ToolkitError, reason_of, require_packages
from toolkit.files import file_record

HUB = "hub:"
NAME = re.compile(r"(?P<name>[^:]+)(?::(?P<config>[^:]+))?")


def hub_splits(data: str) -> list[str]:
    """List the splits of hub:NAME or hub:NAME:CONFIG, where NAME may be a directory.

    Raises:
        ToolkitError: no such data set, or it cannot be read.
    """
    return list(_load(data, None))


def hub_table(data: str, split: str) -> Callable[[], Iterator[Row]]:
    """Give a reader of one split, whose rows have the names of classes in place of their numbers."""
    loaded = _load(data, split)
    return lambda: _rows(loaded)


@dataclass(frozen=True)
class HubSplit:
    """A split as a table, whose rows are read from the disk one after another.

    Attributes:
        name: hub:NAME and so on, as it was given.
        loaded: the split, memory-mapped.
    """

    name: str
    loaded: Any

    def __str__(self) -> str:
        return self.name

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.loaded.column_names)

    def rows(self) -> Iterator[Row]:
        """Read the rows, with the names of classes in place of their numbers."""
        return _rows(self.loaded)

    def digest(self) -> str:
        """Hash the files that hold the rows."""
        paths = [Path(file["filename"]) for file in self.loaded.cache_files]
        return hashlib.sha256("".join(file_record(path)["sha256"] for path in paths).encode()).hexdigest()


def hub_split(data: str) -> HubSplit:
    """Open hub:NAME:SPLIT, hub:NAME:CONFIG:SPLIT, or the only split of hub:NAME.

    Raises:
        ToolkitError: no such data set or split, or no split is named and there are several.
    """
    name, *rest = data.removeprefix(HUB).split(":")
    splits = _load(HUB + ":".join((name, *rest[:-1])), None)
    asked = rest[-1] if rest else next(iter(splits)) if len(splits) == 1 else ""
    if asked not in splits:
        problem = f"{data} has no split {asked!r}" if rest else f"{data}: which split?"
        raise ToolkitError(problem, expected=" or ".join(f"{HUB}{name}:{split}" for split in splits))
    return HubSplit(data, splits[asked])


def _load(data: str, split: str | None) -> Any:
    """Load a split, memory-mapped, or with None all of them by name."""
    match = NAME.fullmatch(data.removeprefix(HUB))
    if match is None:
        raise ToolkitError(f"{data}: no name of a data set", expected=f"{HUB}NAME or {HUB}NAME:CONFIG")
    require_packages("datasets", purpose=f"reading {data}")
    import datasets

    local = Path(match["name"]).is_dir()
    answers = local or hub_answers()
    if not answers:
        datasets.config.HF_HUB_OFFLINE = True  # its cache may hold the rows
    datasets.disable_progress_bars()
    try:
        with quiet_libraries():
            return datasets.load_dataset(match["name"], match["config"], split=split)
    except Exception as error:  # datasets, huggingface_hub and the network each raise their own
        raise ToolkitError(
            f"cannot read the data set {match['name']}: {reason_of(error) if answers else UNREACHABLE}",
            expected=f"{HUB}NAME or {HUB}NAME:CONFIG, as the hub has it",
            fix="files on this machine, such as --data DIR",
        ) from error


def _rows(loaded: Any) -> Iterator[Row]:
    import datasets

    names: Mapping[str, list[str]] = {
        column: getattr(feature, "feature", feature).names
        for column, feature in loaded.features.items()
        if isinstance(getattr(feature, "feature", feature), datasets.ClassLabel)
    }
    for line, row in enumerate(loaded, start=1):
        yield Row(line, row | {column: _named(row[column], names[column]) for column in names})


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
