"""Options of `toolkit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import (
    PRECISION_HELP,
    Config,
    at_least,
    column_option,
    dev_share_option,
    name_option,
    option,
    overwrite_option,
    positive,
    required,
    skip_option,
    training_problems,
)


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Options of `toolkit finetune`."""

    model: str = required("encoder to start from: a directory or a name on the hub", "Model", "DIR")
    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data", "Data", "TASK")
    out: str = required("directory to write the teacher bundle to", "Output", "DIR")
    data: str | None = option(None, "folder with train and dev files, one file, or hub:NAME", "Data", "DATA")
    name: str | None = name_option()
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    epochs: int = option(3, "passes over the training rows; the best on dev is kept", "Training")
    lr: float = option(5e-5, "learning rate at its peak", "Training", "RATE")
    batch_size: int = option(32, "rows of one batch in each process", "Training")
    warmup: float = option(0.1, "fraction of the steps in which the learning rate rises", "Training")
    weight_decay: float = option(0.01, "weight decay of AdamW, on matrices only", "Training")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the task's]", "Data")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]", "Data")
    skip_bad_rows: bool = skip_option()
    patience: int | None = option(
        None, "end after this many dev evaluations without a new best [default: never]", "Training"
    )
    accumulation: int = option(1, "batches whose gradients are summed for one step", "Training")
    precision: str = option("auto", PRECISION_HELP, "Training")
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]", "Output"
    )
    seed: int = option(42, "seed of every random draw", "Training")
    overwrite: bool = overwrite_option()

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from training_problems(self)
        yield from at_least(1, epochs=self.epochs)
        yield from positive(lr=self.lr)
