"""This process among those of a training run, as torchrun or accelerate launch started them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import reduce

from toolkit.console import progress
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import EncodedTexts
from toolkit.inference.runtimes import TorchRuntime


def distributed_state() -> PartialState:
    """How many there are, which this one is, and its device: a GPU each, or the CPU, where gloo joins them."""
    launched = "LOCAL_RANK" in os.environ
    # left to itself accelerate would take processes without a GPU for runs of their own
    return PartialState(cpu=launched and not torch.accelerator.is_available())


@cache
def accelerator() -> Accelerator:
    """Return the one Accelerator of this process, which all stages of its commands train with.

    It fixes its precision when it is made, and stages differ in theirs: it is made without one, and each stage
    computes within `precision.autocast`.
    """
    distributed_state()  # chooses the device
    return Accelerator(mixed_precision="no", kwargs_handlers=[DistributedDataParallelKwargs()])


def model_logits(model: Any, encoded: EncodedTexts, shown_as: str | None = None) -> np.ndarray:
    """Logits [n, C] of a PyTorch classifier in eval mode, each process running its share of the batches.

    The model is moved to the device that training uses. Progress is shown under a name, where one is given.
    """
    state = distributed_state()
    runtime = TorchRuntime(model, str(state.device))
    logits = torch.zeros(len(encoded), model.config.num_labels, device=state.device)
    with progress(shown_as, len(encoded)) if shown_as else nullcontext() as bar:
        for i, rows in enumerate(sorted_batches(encoded.lengths, 64)):
            if i % state.num_processes == state.process_index:
                logits[rows] = torch.from_numpy(runtime.run(encoded.batch(rows))).to(state.device)
            if bar:
                bar.advance(len(rows))
    return reduce(logits, "sum").cpu().numpy()  # type: ignore[no-any-return]
