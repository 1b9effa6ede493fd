"""Options of `toolkit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
    selection_option,
    skip_option,
    training_problems,
)

TABLE_EPOCHS, TABLE_LR = 3, 5e-5  # BERT's for GLUE, arXiv 1810.04805, section 4.1


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Options of `toolkit finetune`."""

    decided_late = ("epochs", "lr", "patience")

    model: str = required("encoder to start from: a directory or a name on the hub", "Model", "DIR")
    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data", "Data", "TASK")
    out: str = required("directory to write the teacher bundle to", "Output", "DIR")
    data: str | None = option(None, "folder with train, dev, perhaps test files, one file, or hub:NAME", "Data", "DATA")
    name: str | None = name_option()
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    epochs: int | None = option(
        None, "passes over the training rows; the best of them is kept [default: 3; by the data for auto]", "Training"
    )
    lr: float | None = option(
        None, "learning rate at its peak [default: 5e-5; by the encoder's width for auto]", "Training", "RATE"
    )
    batch_size: int = option(32, "rows of one batch in each process", "Training")
    warmup: float = option(0.1, "fraction of the steps in which the learning rate rises", "Training")
    weight_decay: float = option(0.01, "weight decay of AdamW, on matrices only", "Training")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the task's]", "Data")
    max_rows: int | None = option(None, "learn from a random subset of this many rows [default: all]", "Data")
    selection_rows: int | None = selection_option()
    skip_bad_rows: bool = skip_option()
    patience: int | None = option(
        None,
        "end after this many evaluations without a new best [default: never; 3 for auto without --epochs]",
        "Training",
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
        yield from training_problems(self, self.data)
        yield from at_least(1, epochs=self.epochs)
        yield from positive(lr=self.lr)

    def resolved(self) -> FinetuneConfig:
        """Replace what a task of the table decides by its value; for auto the data and the encoder decide."""
        if self.task == "auto":
            return self
        return replace(
            self, epochs=TABLE_EPOCHS if self.epochs is None else self.epochs,
            lr=TABLE_LR if self.lr is None else self.lr,
        )  # fmt: skip
