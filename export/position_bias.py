"""Relative positions as a table in the graph: MPNet itself computes its bias in every forward pass, with logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from toolkit.models.families import position_bias, position_count


@contextmanager
def constant_position_bias(model: Any) -> Iterator[None]:
    """Let a model look its bias up by offset, while this lasts; other families than MPNet stay as they are.

    The bias of head a at query i and key j is table[a, j - i + P - 1], for texts of up to P tokens. It is not repeated
    for each text, as the model's own [B, A, L, L] is.
    """
    longest = position_count(model.config)
    bias = position_bias(model, longest)
    if bias is None:
        yield
        return
    before, after = bias[0, :, 1:, 0].flip(1), bias[0, :, 0, :]  # offsets -(P - 1)..-1 and 0..P - 1
    table = torch.cat([before, after], dim=1).detach()[None]  # 1, A, 2 P - 1

    def look_up(hidden: Tensor) -> Tensor:
        """Return the bias [1, A, L, L] for hidden states [B, L, D]."""
        places = torch.arange(hidden.shape[1])
        return table[:, :, places[None, :] - places[:, None] + (longest - 1)]

    encoder = model.base_model.encoder
    encoder.compute_position_bias = look_up
    try:
        yield
    finally:
        del encoder.compute_position_bias
