"""How long and how fast a task of one's own is fine-tuned where the options do not say: steps, not epochs.

Small data need more passes than the three that GLUE has: 20 epochs end the failed runs on RTE's 2,490 rows
(Mosbach et al., arXiv 2006.04884; Zhang et al., arXiv 2006.05987). Many classes need more steps: MiniLM, 384 wide, on
15,000 rows of 150 classes has a dev accuracy of 85.2 % after 3 epochs at 5e-5, and 95.7 % after 4 at 2e-4. The first
rule gives both; the rate goes with the width's square from BERT-base's 5e-5, which is 2e-4 at 384.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from toolkit.config import FinetuneConfig
from toolkit.config.finetune import TABLE_EPOCHS, TABLE_LR
from toolkit.console import echo
from toolkit.training.distributed import distributed_state

LEAST_STEPS, STEPS_PER_CLASS = 1_500, 12
FEWEST_EPOCHS, MOST_EPOCHS = TABLE_EPOCHS, 20
BASE_LR, BASE_WIDTH, MOST_LR = TABLE_LR, 768, 2e-4
PATIENCE = 3  # evaluations, of which each epoch has one


@dataclass(frozen=True)
class TrainingLength:
    """Epochs, learning rate and patience of a fine-tuning."""

    epochs: int
    lr: float
    patience: int | None


def own_task(rows: int, classes: int, width: int, step_rows: int) -> TrainingLength:
    """Give the epochs that make enough steps, and the rate for an encoder's width.

    Args:
        rows: n of train.
        classes: C.
        width: d of the encoder's hidden states.
        step_rows: rows of a step, over all processes.
    """
    steps = max(LEAST_STEPS, STEPS_PER_CLASS * classes)
    epochs = min(max(math.ceil(steps * step_rows / rows), FEWEST_EPOCHS), MOST_EPOCHS)
    return TrainingLength(epochs, min(BASE_LR * (BASE_WIDTH / width) ** 2, MOST_LR), PATIENCE)


def with_length(config: FinetuneConfig, rows: int, classes: int, width: int) -> FinetuneConfig:
    """Fill in epochs, rate and patience that neither the options nor the table of tasks give, and say all of them."""
    step_rows = config.batch_size * config.accumulation * distributed_state().num_processes
    length = own_task(rows, classes, width, step_rows)
    own = config.task == "auto" and config.epochs is None
    config = replace(
        config, epochs=config.epochs or length.epochs, lr=config.lr or length.lr,
        patience=length.patience if own and config.patience is None else config.patience,
    )  # fmt: skip
    ends = f", ending after {config.patience} without a new best" if config.patience else ""
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    echo(f"{epochs} at a learning rate of {config.lr:.3g}{ends}")
    return config
