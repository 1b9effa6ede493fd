"""In which arithmetic the matrix products of a training step are computed; all else stays float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from toolkit.errors import ToolkitError
from toolkit.machine import environment

LONG = 192  # tokens of a row from which on a CPU's plain attention takes what bf16 saves


def settle(precision: str, device: torch.device, tokens: float) -> str:
    """fp32, bf16 or fp16: what an option's value comes to on this device, for rows of so many tokens on average.

    "auto" takes bf16 where the hardware multiplies in it: GPUs since Ampere, and for rows that are not LONG CPUs with
    AMX tiles. Older GPUs get fp16, other CPUs fp32.

    Raises:
        ToolkitError: fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ToolkitError(f"--precision fp16 needs a GPU; this is a {device.type}", expected="fp32, bf16 or auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    pays = device.type == "cpu" and tokens < LONG and "amx_bf16" in environment()["cpu_flags"]
    return "bf16" if pays else "fp32"


@contextmanager
def products(precision: str, device: torch.device) -> Iterator[None]:
    """Within, float32 matrix products on a CPU round their inputs to bf16 and sum in float32, where that is asked for.

    Autocast would do the same and cast every weight and activation there and back in passes of its own: small layers
    lose more by that than they gain. Attention is computed by plain products, since the fused kernel calls bf16
    products tile by tile, which costs it ten times its own time. On other devices nothing changes: there autocast is
    accelerate's.
    """
    if precision != "bf16" or device.type != "cpu":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def accelerate_word(precision: str, device: torch.device) -> str:
    """Accelerate's `mixed_precision` for it."""
    return "no" if precision == "fp32" or device.type == "cpu" else precision
