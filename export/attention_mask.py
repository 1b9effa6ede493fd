"""The mask as one summand in the graph: transformers 5 compares positions, and spreads the mask over all scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BUILDER = "create_bidirectional_mask"  # the function of transformers 5 that each model's module imports


@contextmanager
def additive_mask(model: Any) -> Iterator[None]:
    """Let a model add [B, 1, 1, L] to its scores, while this lasts: 0 for a token, float32's lowest for padding.

    So do BERT's classes of transformers 4, which stay as they are.
    """
    module = sys.modules[type(model.base_model).__module__]
    build = getattr(module, BUILDER, None)
    if build is None:
        yield
        return

    def add(config: Any, inputs_embeds: Tensor, attention_mask: Tensor | None, **options: Any) -> Any:
        """Return the mask for hidden states [B, L, D]; masks that are more than padding stay the model's own."""
        if attention_mask is None or attention_mask.dim() != 2 or any(value is not None for value in options.values()):
            return build(config, inputs_embeds, attention_mask, **options)
        real = attention_mask[:, None, None, :].to(inputs_embeds.dtype)
        return (1.0 - real) * torch.finfo(inputs_embeds.dtype).min

    setattr(module, BUILDER, add)
    try:
        yield
    finally:
        setattr(module, BUILDER, build)
