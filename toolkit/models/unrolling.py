"""An ALBERT as a stack of layers: it runs one module for every layer, which a hook could not tell apart."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from toolkit.models.families import depth


def unroll(model: Any) -> Any:
    """Give each of an ALBERT's N layers a module of its own, in place, on the weights that they share.

    Its answers stay, and so does its memory. Not for a model that is trained or saved. (arXiv 1909.11942, section 3.1)

    Returns:
        The model. One of another family, or with several layers inside its shared module, is as it was.
    """
    encoder: Any = getattr(model.base_model, "encoder", None)
    groups, layers = getattr(encoder, "albert_layer_groups", None), depth(model)
    if groups is None or model.config.inner_group_num > 1:
        return model
    shared = {id(part): part for part in (model.config, *groups.parameters())}
    encoder.albert_layer_groups = nn.ModuleList(
        copy.deepcopy(groups[int(layer / (layers / len(groups)))], dict(shared)) for layer in range(layers)
    )
    model.config.num_hidden_groups = layers
    return model
