"""The speed of both stages of a distillation on this device, and what the device waits for.

Teacher BERT-base, student TinyBERT4, both with random weights, rows without padding: those of general distillation.
Steps are those of the real loop: batches, clipping, AdamW, and the losses read every tenth step.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.models import Architectures, full_rows
from benchmarks.gpu.report import Part, Settings
from toolkit.distillation.data import teacher_logits_dataset
from toolkit.distillation.objectives import IntermediateObjective, PredictionObjective
from toolkit.models.families import model_class
from toolkit.models.student import Projections, layer_map
from toolkit.training.dataset import EncodedDataset
from toolkit.training.schedule import MicroBatch, TrainingSchedule
from toolkit.training.trainer import RECORD_EVERY, StageTrainer

LOSSES = {"attention": 1.0, "hidden": 1.0, "embedding": 1.0}
GENERAL_TOKENS = 2.5e9 * 1.3 * 3  # the paper's words, word pieces a word, epochs: docs/scaling.md
WARM_UPS, PROFILED, MOST_STEPS = 5, 5, 300
TOP_KERNELS = 15


@dataclass(frozen=True)
class Case:
    """A stage, "a" or "b", and the shape of its batches."""

    stage: str
    length: int
    batch_size: int


CASES = (
    Case("a", 64, 256), Case("a", 128, 256), Case("b", 64, 256), Case("a", 64, 1024), Case("b", 64, 1024),
    Case("a", 128, 1024),
)  # fmt: skip
TINY_CASES = (Case("a", 8, 4), Case("b", 8, 4))


def measure(part: Part) -> None:
    """Measure each case until the time is over."""
    cases = TINY_CASES if part.settings.tiny else CASES
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        if not part.left_s:
            break
        try:
            rows.append(rate(case, part.settings, 0.6 * part.left_s / (len(cases) - number)))
        except RuntimeError as error:  # what PyTorch raises, lack of memory too
            rows.append({**vars(case), "left_out": str(error).strip()})
        gc.collect()
        part.keep(rows)


def rate(case: Case, settings: Settings, seconds: float) -> dict[str, Any]:
    """Run steps of a case for some seconds; return rows and tokens a second, waits, memory and the costliest kernels.

    `step_ms` is how long a step takes, `host_ms` how long the host is in it, its waits for the GPU included: where that
    is far less, the GPU sets the pace. `device_waits` is the fraction of the time in which the GPU runs no kernel.
    """
    trainer = prepared(case, settings)
    cuda = trainer.accelerator.device.type == "cuda"
    steps = trainer.batches.remaining_steps(0)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UPS):
        trainer.step(next(steps))
    _finish(cuda)
    host_s, count, start = 0.0, 0, time.perf_counter()
    while count < MOST_STEPS and (count < RECORD_EVERY or time.perf_counter() - start < seconds):
        before = time.perf_counter()
        losses = trainer.step(next(steps))
        host_s += time.perf_counter() - before
        count += 1
        if trainer.result.steps % RECORD_EVERY == 0:
            trainer.record_losses(losses)
    _finish(cuda)
    taken = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if cuda else None
    row = {
        **vars(case), "precision": trainer.result.precision, "steps": count, "step_ms": 1e3 * taken / count,
        "host_ms": 1e3 * host_s / count, "rows_per_s": case.batch_size * count / taken, "peak_bytes": peak,
        "tokens_per_s": case.batch_size * case.length * count / taken, **profile(trainer, steps, cuda),
    }  # fmt: skip
    if case.stage == "a":
        row["general_distillation_hours"] = GENERAL_TOKENS / row["tokens_per_s"] / 3600
    trainer.finish()
    return row


def prepared(case: Case, settings: Settings) -> StageTrainer:
    """Prepare a stage as `toolkit distill` does, in the precision that it chooses for the device."""
    architectures = Architectures.of(settings)
    torch.manual_seed(0)
    teacher, student = (
        model_class(config, head=True)(config).eval() for config in (architectures.base, architectures.student)
    )
    texts = full_rows(8 * case.batch_size, case.length, architectures.base.vocab_size)
    if case.stage == "a":
        layers, width = architectures.student.num_hidden_layers, architectures.student.hidden_size
        mapping = layer_map("uniform", architectures.base.num_hidden_layers, layers)
        projections = Projections(layers + 1, width, architectures.base.hidden_size)
        objective: Any = IntermediateObjective(student, teacher, projections, mapping, LOSSES)
        dataset = EncodedDataset(texts)
    else:
        logits = np.random.default_rng(0).normal(size=(len(texts), 2)).astype(np.float32)
        objective = PredictionObjective(student, "classification", 1.0)
        dataset = teacher_logits_dataset(texts, logits, np.zeros(len(texts), dtype=np.int64))
    schedule = TrainingSchedule(10_000, 5e-5, case.batch_size, 0.1, 0.01, 0, precision="auto")
    return StageTrainer(objective, dataset, schedule, f"stage {case.stage}", student, None)


def profile(trainer: StageTrainer, steps: Iterator[Sequence[MicroBatch]], cuda: bool) -> dict[str, Any]:
    """Profile a few steps: the fraction of the time without a kernel on the GPU, and what takes its time."""
    activities = torch.profiler.ProfilerActivity
    start = time.perf_counter()
    with torch.profiler.profile(activities=[activities.CUDA if cuda else activities.CPU]) as profiler:
        for _ in range(PROFILED):
            trainer.step(next(steps))
        _finish(cuda)
        taken_us = 1e6 * (time.perf_counter() - start)
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
    busy = sum(getattr(event, own) for event in events)
    kernels = [
        {"name": event.key[:100], "calls": event.count / PROFILED, "ms": getattr(event, own) / PROFILED / 1e3}
        for event in events[:TOP_KERNELS]
    ]
    return {"device_waits": max(0.0, 1 - busy / taken_us) if cuda else None, "kernels": kernels}


def _finish(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
