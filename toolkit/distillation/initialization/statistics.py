"""Statistics of a teacher's layers on a sample of text, collected in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.console import progress
from toolkit.models.families import TorchBatch, encoder_layers, layer_paths, model_inputs


@dataclass(frozen=True)
class LayerStatistics:
    """Inputs, sums and outputs of a teacher layer on the sample's real tokens.

    Attributes:
        input: [n, D].
        attention_sum, middle: before and after the norm of the attention block, [n, D].
        energy: sum of squares of each feed-forward neuron's activations, one row for each batch, [batches, F'].
        output_sum, output: before and after the norm of the feed-forward block, [n, D].
    """

    input: Tensor
    attention_sum: Tensor
    middle: Tensor
    energy: Tensor
    output_sum: Tensor
    output: Tensor


class _Rows:
    """A preallocated [count, K] tensor that is filled part by part: states take gigabytes, so no copy is made."""

    def __init__(self, count: int) -> None:
        self._count, self._used = count, 0
        self.values = torch.empty(0)

    def add(self, part: Tensor) -> None:
        """Append rows."""
        if not self._used:
            self.values = torch.empty(self._count, part.shape[1])
        self.values[self._used : self._used + len(part)] = part
        self._used += len(part)


def collect_statistics(
    teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]
) -> tuple[Tensor, list[LayerStatistics], Tensor]:
    """Run the teacher once on the sample.

    Returns:
        The embeddings' output [n, D], the statistics of each mapped layer, and logits [rows, C], empty without a head.
    """
    layers, paths = encoder_layers(teacher), layer_paths(teacher)
    total = sum(int(batch["attention_mask"].sum()) for batch in batches)
    collected: dict[tuple[int, str], _Rows] = {}
    handles, logits = [], []
    read: set[tuple[int, str]] = set()  # in this batch

    def record(number: int, name: str, states: Tensor) -> None:
        real = states[mask].float()
        count, rows = (len(batches), real.square().sum(0, True)) if name == "energy" else (total, real)
        if (number, name) not in read:  # X-MOD's adapter takes the layer's norm a second time
            collected.setdefault((number, name), _Rows(count)).add(rows)
        read.add((number, name))

    def watch(module: nn.Module, number: int, before: str, after: str = "") -> None:
        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Tensor], output: Any) -> None:
            record(number, before, args[0] if args else kwargs["hidden_states"])
            if after:
                record(number, after, output[0] if isinstance(output, tuple) else output)

        handles.append(module.register_forward_hook(hook, with_kwargs=True))

    watch(layers[0], 0, "embedded")
    for g in mapping:
        layer = layers[g - 1]
        watch(layer, g, "input", "output")
        watch(layer.get_submodule(paths.attention_norm), g, "attention_sum", "middle")
        watch(layer.get_submodule(paths.ffn_out), g, "energy")
        watch(layer.get_submodule(paths.ffn_norm), g, "output_sum")
    try:
        with progress("reading the teacher", len(batches)) as bar:
            for batch in batches:
                mask = batch["attention_mask"].bool()
                read.clear()
                output = teacher(**model_inputs(teacher, batch))
                logits.append(output.get("logits", torch.empty(0)).float())
                bar.advance()
    finally:
        for handle in handles:
            handle.remove()
    names = LayerStatistics.__dataclass_fields__
    statistics = [LayerStatistics(**{name: collected[g, name].values for name in names}) for g in mapping]
    return collected[0, "embedded"].values, statistics, torch.cat(logits)
