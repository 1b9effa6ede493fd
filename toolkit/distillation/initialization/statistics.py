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
        input: [n, D]; the tensor of the layer below where that one is mapped too.
        attention_sum: before the norm of the attention block, [n, D].
        attention_norm: that norm.
        energy: sum of squares of each feed-forward neuron's activations, one row for each batch, [batches, F'].
        output_sum, output: before and after the norm of the feed-forward block, [n, D].
    """

    input: Tensor
    attention_sum: Tensor
    attention_norm: nn.Module
    energy: Tensor
    output_sum: Tensor
    output: Tensor

    def middle(self) -> Tensor:
        """Compute the states after the norm of the attention block, [n, D]: kept, they would take memory."""
        return torch.as_tensor(self.attention_norm(self.attention_sum))


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


class _Recorder:
    """Hooks that keep what modules take and give, at the real tokens of each batch.

    Attributes:
        batches: the sample.
        mask: of the batch that the model runs on, [B, L].
        rows: what was kept, by the number of the layer and a name.
    """

    def __init__(self, batches: Sequence[TorchBatch]) -> None:
        self.batches = batches
        self.tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        self.mask = torch.empty(0)
        self.rows: dict[tuple[int, str], _Rows] = {}
        self._read: set[tuple[int, str]] = set()  # in this batch
        self._handles: list[Any] = []

    def begin(self, batch: TorchBatch) -> None:
        """Get ready for a batch."""
        self.mask = batch["attention_mask"].bool()
        self._read.clear()

    def watch(self, module: nn.Module, number: int, *, before: str = "", after: str = "") -> None:
        """Keep a module's input as `before` and its output as `after`, where they are named."""

        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Tensor], output: Any) -> None:
            if before:
                self._record(number, before, args[0] if args else kwargs["hidden_states"])
            if after:
                self._record(number, after, output[0] if isinstance(output, tuple) else output)

        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _record(self, number: int, name: str, states: Tensor) -> None:
        if (number, name) in self._read:  # X-MOD's adapter takes the layer's norm a second time
            return
        self._read.add((number, name))
        real, count = states[self.mask].float(), self.tokens
        if name == "energy":
            real, count = real.square().sum(0, True), len(self.batches)
        self.rows.setdefault((number, name), _Rows(count)).add(real)

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()


def bytes_of_token(mapping: Sequence[int], width: int) -> int:
    """Count the bytes of float32 that `collect_statistics` keeps of a token: 4 D (1 + inputs + 3 M).

    Args:
        mapping: g(1)..g(M); `inputs` of these have no mapped layer below whose output is their input.
        width: D of the teacher.
    """
    inputs = sum(g - 1 not in mapping for g in mapping if g > 1)
    return 4 * width * (1 + inputs + 3 * len(mapping))


def collect_statistics(
    teacher: Any, mapping: Sequence[int], batches: Sequence[TorchBatch]
) -> tuple[Tensor, list[LayerStatistics], Tensor]:
    """Run the teacher once on the sample.

    Returns:
        The embeddings' output [n, D], the statistics of each mapped layer, and logits [rows, C], empty without a head.
    """
    layers, paths = encoder_layers(teacher), layer_paths(teacher)
    recorder, logits = _Recorder(batches), []
    recorder.watch(layers[0], 0, before="output")
    for g in mapping:
        layer = layers[g - 1]
        if g > 1 and g - 1 not in mapping:
            recorder.watch(layer, g - 1, before="output")
        recorder.watch(layer, g, after="output")
        recorder.watch(layer.get_submodule(paths.attention_norm), g, before="attention_sum")
        recorder.watch(layer.get_submodule(paths.ffn_out), g, before="energy")
        recorder.watch(layer.get_submodule(paths.ffn_norm), g, before="output_sum")
    try:
        with progress("reading the teacher", len(batches)) as bar:
            for batch in batches:
                recorder.begin(batch)
                output = teacher(**model_inputs(teacher, batch))
                logits.append(output.get("logits", torch.empty(0)).float())
                bar.advance()
    finally:
        recorder.remove()
    rows = recorder.rows
    statistics = [
        LayerStatistics(
            input=rows[g - 1, "output"].values, attention_norm=layers[g - 1].get_submodule(paths.attention_norm),
            **{name: rows[g, name].values for name in ("attention_sum", "energy", "output_sum", "output")},
        )
        for g in mapping
    ]  # fmt: skip
    return rows[0, "output"].values, statistics, torch.cat(logits)
