"""The precision of matrix products in training: fp32, bf16 or fp16. All else stays float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from toolkit.errors import ToolkitError
from toolkit.measurement.environment import cpu_flags

MULTIPLIES_BF16 = {"amx_bf16", "avx512_bf16"}  # Intel since 2023, AMD since Zen 4
LONG = 192  # tokens of a row: from here on a CPU loses by plain attention what bf16 saves


def resolve_precision(precision: str, device: torch.device, tokens: float) -> str:
    """Resolve "auto" for a device and rows of so many tokens on average: fp32, bf16 or fp16.

    "auto" is bf16 where the hardware multiplies in it: on GPUs since Ampere, and for rows shorter than LONG on CPUs
    with instructions for it. Older GPUs get fp16, other CPUs fp32.

    Raises:
        ToolkitError: fp16 without a GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ToolkitError(f"--precision fp16 needs a GPU; this is a {device.type}", expected="fp32, bf16 or auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    short = device.type == "cpu" and tokens < LONG
    return "bf16" if short and not MULTIPLIES_BF16.isdisjoint(cpu_flags()) else "fp32"


@contextmanager
def bf16_matmul(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products on a CPU round their inputs to bf16 where `precision` is bf16; sums stay float32.

    oneDNN computes them then instead of MKL. With AMX it rounds. With avx512_bf16 alone it multiplies in float32 all
    the same, on AMD's CPUs at twice the speed of MKL.

    Autocast would cast every weight and activation there and back in passes of its own: small layers lose more by that
    than they gain. Attention is computed by plain products, since the fused kernel calls bf16 products tile by tile and
    takes ten times as long. Other devices are left alone: `autocast` is for them.
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
def bf16_frozen_weights(model: nn.Module, precision: str, device: torch.device, tokens: float = 0.0) -> Iterator[None]:
    """Let the linear layers of a model that is not trained multiply by weights that are rounded to bf16 once.

    `bf16_matmul` rounds both sides anew at every product. A teacher's weights never change, and rounding them takes as
    long as a short batch does. The layers' outputs are rounded to bf16 as well and go on in float32. The parameters
    stay as they are. Does nothing where `bf16_matmul` does nothing.

    Args:
        model: a teacher.
        precision: fp32, bf16, fp16, or auto.
        device: that the model runs on.
        tokens: of a row on average, by which auto decides.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if device.type != "cpu" or resolve_precision(precision, device, tokens) != "bf16":
        layers = []
    parameters = {parameter for layer in layers for parameter in (layer.weight, layer.bias) if parameter is not None}
    rounded = {parameter: parameter.detach().bfloat16() for parameter in parameters}  # layers may share them
    for layer in layers:
        bias = None if layer.bias is None else rounded[layer.bias]
        layer.forward = partial(_rounded, rounded[layer.weight], bias)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # uncovers the class's own


def _rounded(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return functional.linear(x.bfloat16(), weight, bias).float()


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a GPU computes matrix products in bf16 or fp16; a CPU has `bf16_matmul` instead."""
    if precision == "fp32" or device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
