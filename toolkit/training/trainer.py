"""One training loop for every stage: length-bucketed batches, AdamW, warm-up and linear decay, best dev step kept.

What is learnt is a module whose forward takes a batch and returns named losses; their sum is minimised. Devices,
precision and processes are accelerate's: with several processes, or several batches a step, the weights move as they
would with one process and one large batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import load
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from toolkit.console import echo, progress
from toolkit.data.tokenization import TokenizedInputs
from toolkit.errors import ToolkitError
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.distributed import accelerator
from toolkit.training.precision import autocast, bf16_matmul, resolve_precision
from toolkit.training.schedule import BatchSchedule, MicroBatch, TrainingSchedule, Unit

FIGURES_EVERY = 10  # steps between readings of the loss: reading it makes a GPU, and other processes, wait
MAX_GRADIENT_NORM = 1.0
WEIGHTS, BEST = "model.safetensors", "best.safetensors"


@dataclass
class StageResult:
    """What a stage did, its matrix products in `precision`.

    `history` has a row {"step", losses...} per reading and {"step", "dev"} per evaluation.
    """

    precision: str = "fp32"
    steps: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_metric: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For the bundle."""
        return asdict(self) | {"seconds": round(self.seconds, 1)}


class EncodedDataset:
    """Encoded inputs with one target each, as padded tensors by batch."""

    def __init__(self, encoded: TokenizedInputs, targets: np.ndarray | None = None) -> None:
        self.encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self.encoded)

    def collate(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """input_ids, attention_mask, token_type_ids [B, L] and, where there are targets, targets [B, ...]."""
        batch = {name: torch.from_numpy(array) for name, array in self.encoded.batch(rows).items()}
        if self.targets is not None:
            batch["targets"] = torch.from_numpy(self.targets[np.asarray(rows)])
        return batch


class Objective(nn.Module):
    """Base of what a stage minimises: forward(batch) gives {name: loss}, and their sum is minimised.

    Attributes:
        averaged_over: the unit that each loss is a mean over; a micro-batch weighs by how many of them it holds.
    """

    averaged_over: ClassVar[Mapping[str, Unit]]


def fit(
    objective: Objective, rows: EncodedDataset, schedule: TrainingSchedule, *, name: str, model: Any,
    evaluate: Callable[[], float] | None, checkpoints: Checkpoints | None = None,
) -> StageResult:  # fmt: skip
    """Minimise an objective over rows; `model` is what is kept.

    Args:
        objective: its parameters that require gradients are trained.
        rows: what to learn from; every row is used in every epoch, the last partial batch too.
        schedule: epochs, rates, batch size, seed.
        name: of the stage, for the progress bar and its checkpoints.
        model: part of the objective that is rolled back to its best dev step at the end.
        evaluate: the dev metric, higher is better, called on every process; None keeps the last step.
        checkpoints: to go on from, and to write; a stage that was finished is not run again.

    Raises:
        ToolkitError: a loss that is not finite, a checkpoint that cannot be written or read, or a precision that the
            device does not have.
    """
    run = StageTrainer(objective, rows, schedule, name, model, checkpoints)
    fitted, total = run.fitted, len(run.steps)
    when = run.steps.evaluations if evaluate else set()
    with progress(name, total, done=fitted.steps) as bar:
        for parts in () if run.done else run.steps.after(fitted.steps):
            told = run.step(parts)
            figures: dict[str, Any] = {}
            if fitted.steps % FIGURES_EVERY == 0 or fitted.steps == total:
                figures = run.read(told)
            if fitted.steps in when and evaluate is not None:
                figures["dev"] = run.judge(evaluate())
            bar.advance(**figures)
            if run.out_of_patience():
                break
            run.checkpoint()
    run.finish()
    return fitted


class StageTrainer:
    """One stage as it runs, from its last checkpoint where there is one: what `fit` steps through."""

    def __init__(
        self, objective: Objective, rows: EncodedDataset, schedule: TrainingSchedule, name: str, model: Any,
        checkpoints: Checkpoints | None,
    ) -> None:  # fmt: skip
        self.accelerator = accelerator()
        self.accelerator.free_memory()  # it holds the objective and the optimizer of a stage that failed
        device = self.accelerator.device
        precision = resolve_precision(schedule.precision, device, float(rows.encoded.lengths.mean()))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.plain, self.rows, self.schedule, self.name, self.model = objective, rows, schedule, name, model
        count, mine = self.accelerator.num_processes, self.accelerator.process_index
        self.steps = BatchSchedule(rows.encoded.lengths, schedule, count, mine)
        self.accelerator.ddp_handler.find_unused_parameters = count > 1 and self._leaves_some_unread()
        torch.manual_seed(schedule.seed + mine)
        groups = parameter_groups(objective, schedule.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.lr, fused=True)
        self.objective, _ = self.accelerator.prepare(objective, self.optimizer)
        self.fitted, self.done, self.checkpoints = StageResult(precision), False, checkpoints
        self.best: dict[str, Tensor] = {}
        if checkpoints is not None and (last := checkpoints.last(name)):
            with checkpoints.opened(last) as progress:
                self._restore(last, **progress)
        self._due, self._begun = False, time.monotonic() - self.fitted.seconds  # as if it had never stopped
        self.objective.train()

    def step(self, parts: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Move the weights once; this process's share of each loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.steps.rate(self.fitted.steps)
        told: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)
            with (
                bf16_matmul(self.fitted.precision, self.accelerator.device),
                nullcontext() if last else self.accelerator.no_sync(self.objective),
            ):
                with autocast(self.fitted.precision, self.accelerator.device):
                    means = self.objective(self._batch(part.rows))
                losses = {key: part.share[self.plain.averaged_over[key]] * loss.float() for key, loss in means.items()}
                # gradients are averaged over processes; the shares of a step's losses are to be summed
                self.scaler.scale(self.accelerator.num_processes * sum(losses.values())).backward()
            told = {key: told.get(key, 0) + loss.detach() for key, loss in losses.items()}
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.objective.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.fitted.steps += 1
        return told

    def read(self, told: dict[str, Tensor]) -> dict[str, Any]:
        """Note the losses of a step over all processes, and how fast it goes; what to show of them.

        Raises:
            ToolkitError: a loss that is not finite.
        """
        due = self.checkpoints is not None and self.accelerator.is_main_process and self.checkpoints.due()
        values = torch.stack([*told.values(), torch.tensor(float(due), device=self.accelerator.device)])
        *losses, agreed = self.accelerator.reduce(values, "sum").tolist()
        self._due = agreed > 0  # by the main process's clock, told to the others with the losses
        reading = dict(zip(told, losses, strict=True))
        broken = [key for key, value in reading.items() if not np.isfinite(value)]
        if broken:
            raise ToolkitError(
                f"{self.name}: the {', '.join(broken)} loss is not finite at step {self.fitted.steps} "
                f"(learning rate {self.schedule.lr:g})",
                fix="a lower learning rate; if it happens at once, the model's weights are damaged",
            )
        self.fitted.history.append({"step": self.fitted.steps, **reading})
        passes = self.schedule.epochs * self.fitted.steps / len(self.steps)
        elapsed, lengths = time.monotonic() - self._begun, self.steps.lengths
        speed = f"{passes * len(lengths) / elapsed:.0f} rows/s {passes * lengths.sum() / elapsed:.0f} tokens/s"
        return {"loss": sum(losses), "speed": speed}

    def judge(self, metric: float) -> float:
        """Note a dev metric, and keep the weights where it is the best so far."""
        fitted = self.fitted
        fitted.history.append({"step": fitted.steps, "dev": metric})
        if fitted.best_metric is None or metric > fitted.best_metric:
            fitted.best_metric, fitted.best_step = metric, fitted.steps
            self.best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.objective.train()
        return metric

    def out_of_patience(self) -> bool:
        """Whether the last `patience` evaluations brought no new best."""
        fitted, patience = self.fitted, self.schedule.patience
        if patience is None or fitted.best_step is None:
            return False
        return sum("dev" in row and row["step"] > fitted.best_step for row in fitted.history) >= patience

    def checkpoint(self) -> None:
        """Write a checkpoint where one is due; after the last step, `finish` does."""
        checkpoints, steps = self.checkpoints, self.fitted.steps
        if checkpoints is None or steps == len(self.steps):
            return
        if not (steps % checkpoints.every == 0 if checkpoints.every else self._due):
            return
        self._due = False
        with checkpoints.save(self.name, steps, self._progress()) as folder:
            self.accelerator.save_state(str(folder), safe_serialization=True)
            if self.best and self.accelerator.is_main_process:
                save_file(self.best, folder / BEST)

    def finish(self) -> None:
        """Roll the model back to its best dev step, and note that the stage is over."""
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        if self.checkpoints is not None and not self.done:
            self.done = True
            with self.checkpoints.save(self.name, self.fitted.steps, self._progress()) as folder:
                if self.accelerator.is_main_process:
                    save_model(self.plain, str(folder / WEIGHTS))
        self.accelerator.free_memory()

    def _batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        return {name: value.to(self.accelerator.device) for name, value in self.rows.collate(rows).items()}

    def _leaves_some_unread(self) -> bool:
        """Whether no loss reads some of the parameters, as stage a leaves the head: DDP would wait for them."""
        losses = self.plain.to(self.accelerator.device)(self._batch([0]))
        trained = [p for p in self.plain.parameters() if p.requires_grad]
        return any(one is None for one in torch.autograd.grad(sum(losses.values()), trained, allow_unused=True))

    def _progress(self) -> dict[str, Any]:
        self.fitted.seconds = time.monotonic() - self._begun
        scaler = {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {"done": self.done, "fitted": asdict(self.fitted)} | scaler

    def _restore(self, folder: Path, done: bool, fitted: dict[str, Any], scaler: dict[str, Any] | None = None) -> None:
        self.fitted, self.done = StageResult(**fitted), done
        if done:
            load_model(self.plain, folder / WEIGHTS)
            return
        self.accelerator.load_state(str(folder))  # by accelerate's `load`, which takes weights_only for granted
        if scaler:
            self.scaler.load_state_dict(scaler)
        # where it cannot read this one, it goes on in silence
        load(folder / f"random_states_{self.accelerator.process_index}.pkl", weights_only=True)
        if (folder / BEST).exists():
            self.best = load_file(folder / BEST)
        echo(f"{self.name}: going on from step {self.fitted.steps} of {len(self.steps)}")


def parameter_groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for biases and layer norms, as BERT was trained."""
    trained = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
    return [
        {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
