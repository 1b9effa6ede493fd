"""The processes of a training run, as torchrun or accelerate launch starts them, and inference shared among them."""

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
from toolkit.training.precision import bf16_frozen_weights, bf16_matmul, resolve_precision


def distributed_state() -> PartialState:
    """Return the number of processes, which of them this is, and its device: a GPU each, or the CPU with gloo."""
    launched = "LOCAL_RANK" in os.environ
    # left to itself accelerate would take processes without a GPU for runs of their own
    return PartialState(cpu=launched and not torch.accelerator.is_available())


@cache
def accelerator() -> Accelerator:
    """Return the one Accelerator of this process, which trains all stages.

    An Accelerator has one precision for its life, but stages differ in theirs. It is made without one, and each stage
    computes within `precision.autocast`.
    """
    distributed_state()  # chooses the device
    return Accelerator(mixed_precision="no", kwargs_handlers=[DistributedDataParallelKwargs()])


def model_logits(model: Any, encoded: EncodedTexts, name: str | None = None, precision: str = "fp32") -> np.ndarray:
    """Compute the logits [n, C] of a PyTorch classifier in eval mode; the processes share the batches.

    Args:
        model: is moved to the device that training uses.
        encoded: n inputs.
        name: of the progress bar; None shows none.
        precision: of the matrix products on a CPU: fp32, bf16, or auto.
    """
    state = distributed_state()
    precision = resolve_precision(precision, state.device, float(encoded.lengths.mean()))
    runtime = TorchRuntime(model, str(state.device))
    logits = torch.zeros(len(encoded), model.config.num_labels, device=state.device)
    with (
        bf16_matmul(precision, state.device),
        bf16_frozen_weights(model, precision, state.device),
        progress(name, len(encoded)) if name else nullcontext() as bar,
    ):
        for i, rows in enumerate(sorted_batches(encoded.lengths, 64)):
            if i % state.num_processes == state.process_index:
                logits[rows] = torch.from_numpy(runtime.run(encoded.batch(rows))).to(state.device)
            if bar:
                bar.advance(len(rows))
    return reduce(logits, "sum").cpu().numpy()  # type: ignore[no-any-return]
