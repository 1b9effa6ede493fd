"""Options of `toolkit evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import (
    Config,
    argument,
    at_least,
    column_option,
    data_problems,
    dev_share_option,
    option,
    skip_option,
    task_problems,
)


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """Options of `toolkit evaluate`."""

    bundle: str = argument("bundle made by finetune, distill or export")
    task: str | None = option(None, "a task [default: the bundle's own]", "Data", "TASK")
    data: str | None = option(None, "folder with the file of the split, one file, or hub:NAME", "Data", "DATA")
    split: str | None = option(
        None,
        "dev, train, test, for MNLI dev_mismatched, all for one file [default: dev; of one file what was not learnt]",
        "Data",
        "NAME",
    )
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    skip_bad_rows: bool = skip_option()
    threads: int = option(0, "threads of the model; 0 takes every core", "Speed")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from at_least(0, threads=self.threads)
        yield from data_problems(self)
        yield from task_problems(self.task, self.data, "the file of the split")
