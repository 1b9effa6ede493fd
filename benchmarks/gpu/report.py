"""The report of a GPU check: one JSON file, replaced as a whole each time a part has something new."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.files import atomic_file

FILE = "gpu.json"


@dataclass(frozen=True)
class Settings:
    """What all parts are given.

    Attributes:
        device: "cpu" or "cuda".
        tiny: small models and few repeats, to see that the code works.
        out: folder of the report, and of what parts write beside it.
        data: folder with GLUE's folders, or None.
        encoder: directory that teachers are made from, or None for MiniLM's package.
        seeds: of the trainings.
    """

    device: str
    tiny: bool
    out: Path
    data: Path | None = None
    encoder: Path | None = None
    seeds: tuple[int, ...] = (1, 2, 3)

    @property
    def report(self) -> Path:
        """The file of the report."""
        return self.out / FILE


@dataclass(frozen=True)
class Part:
    """A part that runs: its settings and its time.

    Attributes:
        name: of its module in this package.
        settings: of the check.
        deadline: on the system's monotonic clock, which all processes share.
    """

    name: str
    settings: Settings
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 behind it."""
        return max(self.deadline - time.monotonic(), 0.0)

    def keep(self, rows: Any) -> None:
        """Put what is measured so far into the report, in place of what was there."""
        update(self.settings.report, self.name, result=rows)


class LeftOutError(Exception):
    """A part, or a row of it, that this machine cannot run, and why."""


def read(path: Path) -> dict[str, Any]:
    """Read a report."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a report: the file is the old or the new one, never a part."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def update(path: Path, name: str, **entries: Any) -> None:
    """Set entries of a part; parts run one after the other, so nobody else writes."""
    content = read(path)
    content["parts"][name] = content["parts"].get(name, {}) | entries
    write(path, content)
