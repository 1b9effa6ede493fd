"""Options of `toolkit cascade`."""

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
    positive,
    skip_option,
)


@dataclass(frozen=True)
class CascadeConfig(Config):
    """Options of `toolkit cascade`."""

    student: str = argument("bundle that answers first")
    teacher: str = argument("bundle of the same labels that answers what the student is unsure of")
    data: str | None = option(
        None, "folder with the file of the split, one file, or hub:NAME [default: the task's own]", "Data", "DATA"
    )
    split: str | None = option(
        None, "labelled rows that neither trained nor chose a model [default: test; of one file what was not learnt]",
        "Data", "NAME",
    )  # fmt: skip
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    skip_bad_rows: bool = skip_option()
    queries: int = option(64, "texts that both models are timed on at most, one at a time on one thread", "Cost")
    rounds: int = option(5, "times that both are timed, in turn", "Cost")
    cpu_hour_price: float | None = option(
        None, "price of an hour of one CPU, for the price of a million texts", "Cost", "PRICE"
    )
    out: str | None = option(
        None, "directory for the reports [default: STUDENT-cascade beside the student]", "Output", "DIR"
    )

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from at_least(1, queries=self.queries, rounds=self.rounds)
        yield from positive(cpu_hour_price=self.cpu_hour_price)
        yield from data_problems(self)
