"""In which arithmetic the matrix products of a training step are computed; all else stays float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from toolkit.errors import ToolkitError
from toolkit.measurement.environment import environment

MULTIPLIES_BF16 = {"amx_bf16", "avx512_bf16"}  # Intel since 2023, AMD since Zen 4
LONG = 192  # tokens of a row from which on a CPU's plain attention takes what bf16 saves


def resolve_precision(precision: str, device: torch.device, tokens: float) -> str:
    """fp32, bf16 or fp16: what an option's value comes to on this device, for rows of so many tokens on average.

    "auto" takes bf16 where the hardware multiplies in it: GPUs since Ampere, and for rows that are not LONG CPUs with
    instructions for it. Older GPUs get fp16, other CPUs fp32.

    Raises:
        ToolkitError: fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ToolkitError(f"--precision fp16 needs a GPU; this is a {device.type}", expected="fp32, bf16 or auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    pays = device.type == "cpu" and tokens < LONG and not MULTIPLIES_BF16.isdisjoint(environment()["cpu_flags"])
    return "bf16" if pays else "fp32"


@contextmanager
def bf16_matmul(precision: str, device: torch.device) -> Iterator[None]:
    """Within, float32 products on a CPU may round their inputs to bf16, where that is asked for; sums stay float32.

    They are oneDNN's then. With AMX it does round; with avx512_bf16 alone it multiplies in float32 all the same, on
    AMD's CPUs at twice the speed of MKL, which computes them otherwise.

    Autocast would do the same and cast every weight and activation there and back in passes of its own: small layers
    lose more by that than they gain. Attention is computed by plain products, since the fused kernel calls bf16
    products tile by tile, which costs it ten times its own time. On other devices nothing changes: `autocast` is for
    them.
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


@contextmanager
def bf16_frozen_weights(model: nn.Module, precision: str, device: torch.device) -> Iterator[None]:
    """Within, linear layers of a model that is not being trained multiply by weights that were rounded to bf16 once.

    `bf16_matmul` rounds both sides anew at every product; a teacher's weights never change, and rounding them takes as
    long as a short batch does. What the layers give is rounded to bf16 as well and goes on in float32. The parameters
    stay what they are. Does nothing where `bf16_matmul` does nothing.
    """
    layers = [one for one in model.modules() if isinstance(one, nn.Linear)]
    if precision != "bf16" or device.type != "cpu":
        layers = []
    for layer in layers:
        weight, bias = layer.weight.detach().bfloat16(), None if layer.bias is None else layer.bias.detach().bfloat16()
        layer.forward = partial(_rounded, weight, bias)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is found again


def _rounded(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return functional.linear(x.bfloat16(), weight, bias).float()


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within, a GPU computes matrix products in bf16 or fp16. A CPU is left alone: `bf16_matmul` is for it."""
    if precision == "fp32" or device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
