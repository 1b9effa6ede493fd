"""The training loop of every stage: length-bucketed batches, AdamW, warm-up and linear decay, best step kept.

Several processes, or several batches a step, move the weights as one process with one large batch does.
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
from accelerate.utils import DistributedType, load
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from toolkit.console import echo, progress
from toolkit.errors import ToolkitError
from toolkit.models.families import TorchBatch
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import accelerator
from toolkit.training.precision import autocast, bf16_matmul, resolve_precision
from toolkit.training.schedule import BatchSchedule, MicroBatch, TrainingSchedule, Unit

RECORD_EVERY = 10  # steps between records of the losses: reading them makes a GPU, and other processes, wait
MAX_GRADIENT_NORM = 1.0
WEIGHTS, BEST = "model.safetensors", "best.safetensors"
HistoryRow = dict[str, float]  # "step", and the losses by name or "selection"


@dataclass
class StageResult:
    """The outcome of a stage: its matrix products' `precision`, its length, its best step by the rows that choose.

    `history` has a row {"step", losses...} for each record of the losses and {"step", "selection"} for each evaluation.
    """

    precision: str = "fp32"
    steps: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_metric: float | None = None
    history: list[HistoryRow] = field(default_factory=list)

    @property
    def metrics(self) -> list[float]:
        """The metric of each evaluation, in their order."""
        return [row["selection"] for row in self.history if "selection" in row]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the bundle."""
        return asdict(self) | {"seconds": round(self.seconds, 1)}


class Objective(nn.Module):
    """Base of what a stage minimises: forward(batch) gives {name: loss}, and their sum is minimised.

    Attributes:
        averaged_over: the unit that each loss is a mean over; a micro-batch weighs by how many of them it holds.
    """

    averaged_over: ClassVar[Mapping[str, Unit]]


def fit(
    objective: Objective, dataset: EncodedDataset, schedule: TrainingSchedule, *, name: str, model: Any,
    evaluate: Callable[[], float] | None, checkpoints: Checkpoints | None = None,
) -> StageResult:  # fmt: skip
    """Minimise an objective over a dataset and leave `model` at its best step.

    Args:
        objective: its parameters that require gradients are trained.
        dataset: every row is used in every epoch, those of the last partial batch too.
        schedule: epochs, learning rate, batch size, seed.
        name: of the stage, for the progress bar and its checkpoints.
        model: the part of the objective that is rolled back to its best step at the end.
        evaluate: the metric of the rows that choose, higher is better, called on every process; None keeps the last
            step.
        checkpoints: to resume from, and to write; a finished stage is not run again.

    Raises:
        ToolkitError: a loss that is not finite, a checkpoint that cannot be written or read, or a precision that the
            device does not have.
    """
    trainer = StageTrainer(objective, dataset, schedule, name, model, checkpoints)
    result, total = trainer.result, len(trainer.batches)
    evaluations = trainer.batches.evaluations if evaluate else set()
    with progress(name, total, done=result.steps) as bar:
        for parts in () if trainer.finished else trainer.batches.remaining_steps(result.steps):
            losses = trainer.step(parts)
            shown: dict[str, float | str] = {}
            if result.steps % RECORD_EVERY == 0 or result.steps == total:
                shown |= trainer.record_losses(losses)
            if result.steps in evaluations and evaluate is not None:
                shown["selection"] = 100 * trainer.record_metric(evaluate())  # in %, as all that is shown
            bar.advance(1, **shown)
            if trainer.should_stop_early():
                trainer.say_early_end(total)
                break
            trainer.save_checkpoint()
    trainer.finish()
    return result


class StageTrainer:
    """The state of a running stage, restored from its last checkpoint where there is one; `fit` steps through it."""

    def __init__(
        self, objective: Objective, dataset: EncodedDataset, schedule: TrainingSchedule, name: str, model: Any,
        checkpoints: Checkpoints | None,
    ) -> None:  # fmt: skip
        self.accelerator = accelerator()
        self.accelerator.free_memory()  # it still holds the objective and the optimizer of a stage that failed
        device, processes = self.accelerator.device, self.accelerator.num_processes
        self.objective, self.dataset, self.schedule, self.name, self.model = objective, dataset, schedule, name, model
        self.batches = BatchSchedule(dataset.encoded.lengths, schedule, processes, self.accelerator.process_index)
        precision = resolve_precision(schedule.precision, device, float(dataset.encoded.lengths.mean()))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        wrapped = self.accelerator.distributed_type != DistributedType.NO  # by DDP, also one process of torchrun alone
        self.accelerator.ddp_handler.find_unused_parameters = wrapped and self._has_unused_parameters()
        torch.manual_seed(schedule.seed + self.accelerator.process_index)
        groups = parameter_groups(objective, schedule.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.lr, fused=True)
        self.prepared, _ = self.accelerator.prepare(objective, self.optimizer)  # with gradients that are synchronised
        self.result, self.finished, self.checkpoints = StageResult(precision), False, checkpoints
        self.best: dict[str, Tensor] = {}
        if checkpoints is not None and (last := checkpoints.last(name)):
            with checkpoints.opened(last) as stored:
                self._restore(last, **stored)
        # time counts as if the stage had never stopped
        self._checkpoint_due, self._start = False, time.monotonic() - self.result.seconds
        self.prepared.train()

    def step(self, parts: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Move the weights once and return this process's part of each loss of the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.batches.learning_rate(self.result.steps)
        step_losses: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)
            with (
                bf16_matmul(self.result.precision, self.accelerator.device),
                nullcontext() if last else self.accelerator.no_sync(self.prepared),
            ):
                with autocast(self.result.precision, self.accelerator.device):
                    means = self.prepared(self._batch(part.rows))
                losses = {
                    key: part.fraction[self.objective.averaged_over[key]] * mean.float() for key, mean in means.items()
                }
                # gradients are averaged over processes, but the parts of a loss add up to it
                self.scaler.scale(self.accelerator.num_processes * sum(losses.values())).backward()
            step_losses = {key: step_losses.get(key, 0) + loss.detach() for key, loss in losses.items()}
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.prepared.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.result.steps += 1
        return step_losses

    def record_losses(self, step_losses: dict[str, Tensor]) -> dict[str, float | str]:
        """Add the losses of a step over all processes to the history; return the loss and the speed, to be shown.

        Raises:
            ToolkitError: a loss that is not finite.
        """
        due = self.checkpoints is not None and self.accelerator.is_main_process and self.checkpoints.due()
        values = torch.stack([*step_losses.values(), torch.tensor(float(due), device=self.accelerator.device)])
        *losses, main_process_due = self.accelerator.reduce(values, "sum").tolist()
        self._checkpoint_due = main_process_due > 0  # clocks differ, and every process must save at the same step
        row = dict(zip(step_losses, losses, strict=True))
        broken = [key for key, value in row.items() if not np.isfinite(value)]
        if broken:
            raise ToolkitError(
                f"{self.name}: the {', '.join(broken)} loss is not finite at step {self.result.steps} "
                f"(learning rate {self.schedule.lr:g})",
                fix="a lower learning rate; if it happens at once, the model's weights are damaged",
            )
        self.result.history.append({"step": self.result.steps, **row})
        passes = self.schedule.epochs * self.result.steps / len(self.batches)
        elapsed, lengths = time.monotonic() - self._start, self.batches.lengths
        speed = f"{passes * len(lengths) / elapsed:.0f} rows/s {passes * lengths.sum() / elapsed:.0f} tokens/s"
        return {"loss": sum(losses), "speed": speed}

    def record_metric(self, metric: float) -> float:
        """Add a metric to the history and return it; copy the weights where it is the best so far."""
        result = self.result
        result.history.append({"step": result.steps, "selection": metric})
        if result.best_metric is None or metric > result.best_metric:
            result.best_metric, result.best_step = metric, result.steps
            self.best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.prepared.train()
        return metric

    def should_stop_early(self) -> bool:
        """Return whether the last `patience` evaluations brought no new best."""
        result, patience = self.result, self.schedule.patience
        if patience is None or result.best_step is None:
            return False
        return sum("selection" in row and row["step"] > result.best_step for row in result.history) >= patience

    def say_early_end(self, total: int) -> None:
        """Say that the stage ends before its `total` steps, why, and which step is kept."""
        result = self.result
        assert result.best_metric is not None
        echo(
            f"{self.name} ends at step {result.steps} of {total}, by --patience {self.schedule.patience}: the best, "
            f"{100 * result.best_metric:.2f}, is of step {result.best_step}"
        )

    def save_checkpoint(self) -> None:
        """Write a checkpoint where one is due; after the last step, `finish` writes it."""
        checkpoints, steps = self.checkpoints, self.result.steps
        if checkpoints is None or steps == len(self.batches):
            return
        if not (steps % checkpoints.every == 0 if checkpoints.every else self._checkpoint_due):
            return
        self._checkpoint_due = False
        with checkpoints.save(self.name, steps, self._progress()) as folder:
            self.accelerator.save_state(str(folder), safe_serialization=True)
            if self.best and self.accelerator.is_main_process:
                save_file(self.best, folder / BEST)

    def finish(self) -> None:
        """Roll the model back to its best step and mark the stage as finished."""
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        if self.checkpoints is not None and not self.finished:
            self.finished = True
            with self.checkpoints.save(self.name, self.result.steps, self._progress()) as folder:
                if self.accelerator.is_main_process:
                    save_model(self.objective, str(folder / WEIGHTS))
        self.accelerator.free_memory()

    def _batch(self, rows: Sequence[int] | np.ndarray) -> TorchBatch:
        device, batch = self.accelerator.device, self.dataset.collate(rows)
        if device.type == "cuda":  # from pinned memory a copy does not make the host wait for the last step
            batch = {name: value.pin_memory() for name, value in batch.items()}
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

    def _has_unused_parameters(self) -> bool:
        """Return whether some parameters reach no loss, as the head in stage a: DDP would wait for their gradients."""
        losses = self.objective.to(self.accelerator.device)(self._batch([0]))
        trained = [p for p in self.objective.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(sum(losses.values()), trained, allow_unused=True)
        return any(gradient is None for gradient in gradients)

    def _progress(self) -> dict[str, object]:
        self.result.seconds = time.monotonic() - self._start
        scaler = {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {"done": self.finished, "fitted": asdict(self.result), **scaler}

    def _restore(
        self, folder: Path, done: bool, fitted: Mapping[str, Any], scaler: dict[str, float] | None = None
    ) -> None:
        """Load a checkpoint; `done`, `fitted` and `scaler` are what `_progress` gave."""
        self.result, self.finished = StageResult(**fitted), done
        if done:
            load_model(self.objective, folder / WEIGHTS)
            return
        self.accelerator.load_state(str(folder))  # by accelerate's `load`, which takes weights_only for granted
        # where accelerate cannot read the random state, it goes on in silence
        load(folder / f"random_states_{self.accelerator.process_index}.pkl", weights_only=True)
        if scaler:
            self.scaler.load_state_dict(scaler)
        if (folder / BEST).exists():
            self.best = load_file(folder / BEST)
        echo(f"{self.name}: going on from step {self.result.steps} of {len(self.batches)}")


def parameter_groups(objective: nn.Module, weight_decay: float) -> list[dict[str, list[nn.Parameter] | float]]:
    """Split the trained parameters: weight decay for matrices, none for biases and layer norms, as in BERT."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
