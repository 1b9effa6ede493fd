"""One training loop for every stage: length-bucketed batches, AdamW, warm-up and linear decay, best dev step kept.

What is learnt is a module whose forward takes a batch and returns named losses; their sum is minimised. Devices,
precision and processes are accelerate's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from toolkit.console import track
from toolkit.errors import ToolkitError
from toolkit.predictor import TorchRuntime, batched_logits
from toolkit.text import Encoded, shuffled_batches

FIGURES_EVERY = 10  # steps between readings of the loss: reading it makes a GPU wait
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns. `warmup` is the share of steps with a rising rate."""

    epochs: int
    lr: float
    batch_size: int
    warmup: float
    weight_decay: float
    seed: int
    evaluations: int = 1


@dataclass
class Fitted:
    """What a stage did: `history` has a row {"step", losses..., "seconds"} per reading and per dev evaluation."""

    steps: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_metric: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the bundle."""
        return {
            "steps": self.steps, "seconds": round(self.seconds, 1), "best_step": self.best_step,
            "best_metric": self.best_metric, "history": self.history,
        }  # fmt: skip


class Rows(Dataset[int]):
    """Encoded inputs with one target each, as padded tensors by batch."""

    def __init__(self, encoded: Encoded, targets: np.ndarray | None = None) -> None:
        self.encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> int:
        return row  # rows are gathered by batch, in `collate`

    def collate(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """input_ids, attention_mask, token_type_ids [B, L] and, where there are targets, targets [B, ...]."""
        batch = {name: torch.from_numpy(array) for name, array in self.encoded.batch(rows).items()}
        if self.targets is not None:
            batch["targets"] = torch.from_numpy(self.targets[list(rows)])
        return batch


class LengthBatches(Sampler[list[int]]):
    """`shuffled_batches` as torch's loader wants them; each pass is the next epoch."""

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = shuffled_batches(self.lengths, self.batch_size, self.seed, self.epoch)
        self.epoch += 1
        yield from (batch.tolist() for batch in batches)


def fit(
    objective: nn.Module, rows: Rows, schedule: Schedule, *, name: str, model: Any, evaluate: Callable[[], float] | None
) -> Fitted:
    """Minimise an objective over rows; `model` is what is kept.

    Args:
        objective: forward(batch) gives {name: loss}; its parameters that require gradients are trained.
        rows: what to learn from; every row is used in every epoch, the last partial batch too.
        schedule: epochs, rates, batch size, seed.
        name: of the stage, for the progress bar.
        model: part of the objective that is rolled back to its best dev step at the end.
        evaluate: the dev metric, higher is better; None keeps the last step.

    Raises:
        ToolkitError: a loss that is not finite.
    """
    torch.manual_seed(schedule.seed)
    accelerator = Accelerator()
    loader = DataLoader(
        rows, batch_sampler=LengthBatches(rows.encoded.lengths, schedule.batch_size, schedule.seed),
        collate_fn=rows.collate,
    )  # fmt: skip
    total = schedule.epochs * len(loader)
    optimizer = torch.optim.AdamW(_decayed(objective, schedule.weight_decay), lr=schedule.lr, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total, schedule.warmup))
    objective, optimizer, loader, scheduler = accelerator.prepare(objective, optimizer, loader, scheduler)
    when = _evaluation_steps(total, schedule.epochs * schedule.evaluations) if evaluate else set()
    fitted, best, start, seen = Fitted(), None, time.monotonic(), 0
    objective.train()
    with track(name, total) as progress:
        for batch in (batch for _ in range(schedule.epochs) for batch in loader):
            losses = objective(batch)
            loss = sum(losses.values())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(objective.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            fitted.steps += 1
            seen += len(batch["input_ids"])
            figures: dict[str, Any] = {}
            if fitted.steps % FIGURES_EVERY == 0 or fitted.steps == total:
                reading = _reading(losses, fitted.steps, name, schedule)
                fitted.history.append(reading)
                elapsed = time.monotonic() - start
                figures = {"loss": sum(reading[key] for key in losses), "speed": f"{seen / elapsed:.0f} rows/s"}
            if fitted.steps in when and evaluate is not None:
                metric = evaluate()
                objective.train()
                fitted.history.append({"step": fitted.steps, "dev": metric})
                if fitted.best_metric is None or metric > fitted.best_metric:
                    fitted.best_metric, fitted.best_step = metric, fitted.steps
                    best = {key: value.detach().clone() for key, value in model.state_dict().items()}
                figures["dev"] = metric
            progress.advance(**figures)
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    fitted.seconds = time.monotonic() - start
    return fitted


def model_logits(model: Any, encoded: Encoded) -> np.ndarray:
    """Logits [n, C] of a PyTorch classifier in eval mode, on whatever device it is."""
    return batched_logits(TorchRuntime(model, str(next(model.parameters()).device)), encoded, batch_size=64)


def _decayed(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for biases and layer norms, as BERT was trained."""
    trained = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    return [
        {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(step: int, total: int, warmup: float) -> float:
    """Share of the learning rate at a step: linear up over the warm-up, then linear down to 0."""
    rising = max(int(total * warmup), 1)
    return min((step + 1) / rising, (total - step) / max(total - rising, 1), 1.0)


def _evaluation_steps(total: int, count: int) -> set[int]:
    return {max(round(total * i / count), 1) for i in range(1, count + 1)}


def _reading(losses: dict[str, Tensor], step: int, name: str, schedule: Schedule) -> dict[str, float]:
    values = {key: float(value.detach()) for key, value in losses.items()}
    broken = [key for key, value in values.items() if not np.isfinite(value)]
    if broken:
        raise ToolkitError(
            f"{name}: the {', '.join(broken)} loss is not finite at step {step} (learning rate {schedule.lr:g})",
            fix="a lower learning rate; if it happens at once, the model's weights are damaged",
        )
    return {"step": step, **values}
