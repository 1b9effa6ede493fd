"""Options of `toolkit finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import PRECISIONS, Config, at_least, option, positive, required, training_problems


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Options of `toolkit finetune`."""

    model: str = required("encoder to start from: a directory or a name on the hub")
    task: str = required("a GLUE task, rotten-tomatoes, or auto with --data")
    out: str = required("directory to write the teacher bundle to")
    data: str | None = option(None, "folder with train and dev files (.tsv as GLUE has them, .csv, .jsonl, .parquet)")
    epochs: int = option(3, "passes over the training rows; the best on dev is kept")
    lr: float = option(5e-5, "learning rate at its peak")
    batch_size: int = option(32, "rows a process takes at a time")
    warmup: float = option(0.1, "share of the steps in which the learning rate rises")
    weight_decay: float = option(0.01, "AdamW's, on matrices only")
    max_length: int | None = option(None, "tokens at which texts are cut [default: the task's]")
    max_rows: int | None = option(None, "train on a random subset of this many rows [default: all]")
    patience: int | None = option(None, "end after this many dev evaluations without a new best [default: never]")
    accumulation: int = option(1, "batches whose gradients are summed for one step")
    precision: str = option(
        "auto", f"of the matrix products: {', '.join(PRECISIONS)}; auto: bf16 on a GPU or a CPU that multiplies in it"
    )
    checkpoint_every: int | None = option(
        None, "steps between checkpoints, in OUT.partial [default: as often as 2 % of the time allows]"
    )
    seed: int = option(42, "of every random draw")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        yield from training_problems(self)
        yield from at_least(1, epochs=self.epochs)
        yield from positive(lr=self.lr)
