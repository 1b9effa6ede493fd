"""What a teacher's layers do with a sample of text, read in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.console import progress
from toolkit.models.families import encoder_layers, layer_paths, model_inputs

TorchBatch = dict[str, Tensor]


@dataclass(frozen=True)
class LayerStatistics:
    """What one teacher layer did with the sample's real tokens.

    Attributes:
        input: [n, D].
        attention_sum, middle: before and after the norm of the attention block, [n, D].
        energy: sum of squares of each feed-forward neuron's activations, a row a batch, [batches, F'].
        output_sum, output: before and after the norm of the feed-forward block, [n, D].
    """

    input: Tensor
    attention_sum: Tensor
    middle: Tensor
    energy: Tensor
    output_sum: Tensor
    output: Tensor


class _Rows:
    """Rows that come in parts, [count, K], in their place from the start: states are gigabytes, to be held once."""

    def __init__(self, count: int) -> None:
        self._count, self._used = count, 0
        self.values = torch.empty(0)

    def add(self, part: Tensor) -> None:
        """Put the next rows behind those that came before."""
        if not self._used:
            self.values = torch.empty(self._count, part.shape[1])
        self.values[self._used : self._used + len(part)] = part
        self._used += len(part)


def collect_statistics(
    teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]
) -> tuple[Tensor, list[LayerStatistics], Tensor]:
    """One pass of the teacher: the embeddings' output [n, D], the mapped states, and logits [rows, C] if any."""
    layers, paths = encoder_layers(teacher), layer_paths(teacher)
    total = sum(int(batch["attention_mask"].sum()) for batch in batches)
    found: dict[tuple[int, str], _Rows] = {}
    handles = []

    def watch(module: nn.Module, number: int, before: str, after: str = "") -> None:
        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            given = args[0] if args else kwargs["hidden_states"]
            for name, tensor in ((before, given), (after, output[0] if isinstance(output, tuple) else output)):
                if name:
                    real = tensor[mask].float()
                    count, kept = (len(batches), real.square().sum(0, True)) if name == "energy" else (total, real)
                    found.setdefault((number, name), _Rows(count)).add(kept)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    watch(layers[0], 0, "embedded")
    for g in mapping:
        layer = layers[g - 1]
        watch(layer, g, "input", "output")
        watch(layer.get_submodule(paths.attention_norm), g, "attention_sum", "middle")
        watch(layer.get_submodule(paths.ffn_out), g, "energy")
        watch(layer.get_submodule(paths.ffn_norm), g, "output_sum")
    logits = []
    try:
        with progress("reading the teacher", len(batches)) as bar:
            for batch in batches:
                mask = batch["attention_mask"].bool()
                output = teacher(**model_inputs(teacher, batch))
                logits.append(output.get("logits", torch.empty(0)).float())
                bar.advance()
    finally:
        for handle in handles:
            handle.remove()
    names = LayerStatistics.__dataclass_fields__
    states = [LayerStatistics(**{name: found[g, name].values for name in names}) for g in mapping]
    return found[0, "embedded"].values, states, torch.cat(logits)
