"""This process among those of a training run, as torchrun or accelerate launch started them."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """How many there are, which this one is, and its device: a GPU each, or the CPU, where gloo joins them."""
    launched = "LOCAL_RANK" in os.environ
    # left to itself accelerate would take processes without a GPU for runs of their own
    return PartialState(cpu=launched and not torch.accelerator.is_available())
