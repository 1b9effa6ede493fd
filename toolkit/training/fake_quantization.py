"""Fake quantization: a classifier trains in the arithmetic of its int8 export, with integers held in float32.

`toolkit export --int8` rounds once; inside `fake_quantized(model)` every forward pass rounds the same way:

    linear layer      y = s_x s_w (q_x q_w) + b
    its weight        q_w = round(W / s_w) [N, K], |q_w| <= 63,     s_w [N] one scale an output channel
    its input         q_x = round(x / s_x) [..., K], |q_x| <= 127,  s_x [..., 1] one scale a token
    embedding row     E_i = s_i q_i, |q_i| <= 127,                  s_i one scale a row, in half precision

Each scale is the largest magnitude over its limit, that of a row rounded up. The layer that gives the logits,
attention's two products, softmax and layer norms stay as they are. The products of integers are integers below 2^24 for
up to 2,096 inputs, exact in float32, so the logits are those of the export, except where its other operators round
differently.

Rounding has no gradient. The straight-through estimator (Bengio et al., arXiv 1308.3432) gives it that of the
identity and takes scales for constants, so that the weights move under the rounding of the export.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.models.families import encoder_layers, head_modules

WEIGHT_LIMIT, ROW_LIMIT = 63, 127  # linear weights; tokens and rows of embedding tables
STEP = float(np.float32(1 / 127))  # the export multiplies a token's largest |value| by this
SMALLEST = 1e-20  # stands in for the largest |value| of a row of zeros
# The export takes the largest |value| after these activation functions from the maximum alone and this bound on the
# negative side, so a token whose maximum is below it has a coarser scale than it could.
LEAST_LARGEST = {"gelu": 0.17, "gelu_pytorch_tanh": 0.17}


@contextmanager
def fake_quantized(model: Any) -> Iterator[None]:
    """Let a student, a classifier, compute as its int8 export will; its parameters stay as they are."""
    after_activation = {layer.get_submodule("output.dense") for layer in encoder_layers(model)}
    logits = head_modules(model)[1]
    activation_least = LEAST_LARGEST.get(model.config.hidden_act, SMALLEST)
    changed: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not logits:
            least = activation_least if module in after_activation else SMALLEST
            module.forward = partial(_linear, module, least)  # type: ignore[method-assign]
        elif isinstance(module, nn.Embedding):
            module.forward = partial(_embedding, module)  # type: ignore[method-assign]
        else:
            continue
        changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward  # uncovers the class's own


def _linear(layer: nn.Linear, least: float, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # in bf16 the sums would no longer be whole numbers
        token_scale = _largest(x, least) * STEP  # [..., 1]
        channel_scale = _largest(layer.weight) / WEIGHT_LIMIT  # [N, 1]
        product = functional.linear(_round(x.float() / token_scale), _round(layer.weight / channel_scale))
        return product * channel_scale[:, 0] * token_scale + layer.bias


def _embedding(table: nn.Embedding, ids: Tensor) -> Tensor:
    rows = functional.embedding(ids, table.weight, table.padding_idx)  # [..., H]
    scale = _half(_largest(rows) / ROW_LIMIT)
    return _round(rows / scale) * scale


def _half(scale: Tensor) -> Tensor:
    """Round positive scales up to half precision: the next number up has the next bits."""
    half = scale.half()
    above = (half.view(torch.int16) + 1).view(torch.float16)
    return torch.where(half.float() < scale, above, half).float()


def _largest(rows: Tensor, least: float = SMALLEST) -> Tensor:
    return rows.detach().float().abs().amax(dim=-1, keepdim=True).clamp_min(least)


def _round(values: Tensor) -> Tensor:
    """Round to the nearest integer, halves to even; the sum is exact, and its gradient is that of `values`."""
    return values + (torch.round(values) - values).detach()
