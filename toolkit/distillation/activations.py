"""Attention scores and hidden states of chosen layers, recorded by hooks while the model runs its fused attention.

`output_attentions=True` returns probabilities of every layer, not scores, and turns fused attention off. Hooks on the
query and key projections give the scores of Eq. 7, Q.K^T / sqrt(d_head) before softmax, for the mapped layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.models.families import encoder_layers, layer_paths, position_bias_table


@dataclass
class Activations:
    """Activations of one forward pass. Layers count from 1; 0 is the embeddings' output.

    Attributes:
        hidden: layer to [B, L, width].
        queries, keys, values: layer to [B, L, width], heads side by side.
        position_bias: [1, A, L, L], added to the scores by models with relative positions (MPNet), else None.
        heads: A.
    """

    heads: int
    hidden: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    position_bias: Tensor | None = None

    def attention_scores(self, layer: int) -> Tensor:
        """Return Q.K^T / sqrt(d_head), before mask and softmax, [B, A, L, L]."""
        query, key = self._split_heads(self.queries[layer]), self._split_heads(self.keys[layer])
        scores: Tensor = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores if self.position_bias is None else scores + self.position_bias

    def _split_heads(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        split: Tensor = states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        return split  # B, A, L, d_head


class ActivationRecorder:
    """Hooks on a model that fill `activations` anew at each forward pass, until `close`.

    Args:
        model: a Hugging Face encoder, with or without a head.
        layers: layers to record, counted from 1; 0 records the embeddings' output.
        hidden, scores, values: kinds of activations to record; the others cost nothing.
    """

    def __init__(
        self, model: Any, layers: Sequence[int], *, hidden: bool = True, scores: bool = True, values: bool = False
    ) -> None:
        stack, paths = encoder_layers(model), layer_paths(model)
        self._heads = int(model.config.num_attention_heads)
        self.activations = Activations(self._heads)
        self._position_bias: Tensor | None = None
        start = self._start_hook(record_embeddings=hidden and 0 in layers)
        self._handles = [stack[0].register_forward_pre_hook(start, with_kwargs=True)]
        for number in layers:
            if number == 0:
                continue
            layer = stack[number - 1]
            if hidden:
                self._record(layer, "hidden", number)
            if scores:
                self._record(layer.get_submodule(paths.query), "queries", number)
                self._record(layer.get_submodule(paths.key), "keys", number)
            if values:
                self._record(layer.get_submodule(paths.value), "values", number)
        relative = position_bias_table(model)
        if scores and relative is not None:
            self._handles.append(relative.register_forward_hook(self._record_position_bias))

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _start_hook(self, *, record_embeddings: bool) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Tensor]) -> None:
            self.activations = Activations(self._heads, position_bias=self._position_bias)
            if record_embeddings:
                self.activations.hidden[0] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _record_position_bias(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        # MPNet's encoder computes it anew in each pass, before its first layer
        self._position_bias = output.permute(2, 0, 1)[None]  # 1, A, L, L

    def _record(self, module: nn.Module, kind: str, number: int) -> None:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            getattr(self.activations, kind)[number] = output if isinstance(output, torch.Tensor) else output[0]

        self._handles.append(module.register_forward_hook(hook))
