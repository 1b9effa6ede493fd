"""Attention scores and hidden states of chosen layers, through hooks, while the model runs its fast attention.

`output_attentions=True` gives probabilities, not scores, of every layer, and turns fused attention off. Hooks on the
query and key projections give what Eq. 7 wants, Q.K^T / sqrt(d_head) before softmax, for the mapped layers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.errors import ToolkitError
from toolkit.text import Inputs

MAPPED_TEXTS, MAPPED_TOKENS, LOOKED_THROUGH = 3, 14, 10_000


@dataclass(frozen=True)
class LayerPaths:
    """Where a family keeps the parts of one encoder layer, as dotted module paths inside the layer."""

    query: str
    key: str
    value: str
    attention_out: str
    attention_norm: str
    ffn_in: str
    ffn_out: str
    ffn_norm: str


FAMILIES = (
    LayerPaths(  # BERT, RoBERTa, XLM-R, ELECTRA
        "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
    ),
    LayerPaths(  # DistilBERT
        "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
        "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
    ),
    LayerPaths(  # MPNet
        "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
        "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
    ),
)  # fmt: skip


def encoder_layers(model: Any) -> nn.ModuleList:
    """The stack of encoder layers of a Hugging Face model.

    Raises:
        ToolkitError: a family whose layers are not found; names those that are supported.
    """
    base = model.base_model
    for path in ("encoder.layer", "transformer.layer"):
        try:
            layers = base.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(layers, nn.ModuleList):
            return layers
    raise _unsupported(model)


def layer_paths(model: Any) -> LayerPaths:
    """Where this model's family keeps the parts of a layer.

    Raises:
        ToolkitError: an unsupported family.
    """
    names = {name for name, _ in encoder_layers(model)[0].named_modules()}
    for family in FAMILIES:
        if {family.query, family.key, family.value, family.attention_norm, family.ffn_norm} <= names:
            return family
    raise _unsupported(model)


@dataclass
class States:
    """What one forward pass showed. Layers count from 1; 0 is the embeddings' output.

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
        """Q.K^T / sqrt(d_head), before mask and softmax, [B, A, L, L]."""
        query, key = self._split(self.queries[layer]), self._split(self.keys[layer])
        scores: Tensor = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores if self.position_bias is None else scores + self.position_bias

    def _split(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        split: Tensor = states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        return split  # B, A, L, d_head


class Trace:
    """Hooks on one model that fill a `States` at each forward pass, until `close`.

    Args:
        model: a Hugging Face encoder, with or without a head.
        layers: layers to watch, counted from 1; 0 watches the embeddings' output.
        hidden, scores, values: which states to keep; what is not asked for costs nothing.
    """

    def __init__(
        self, model: Any, layers: Sequence[int], *, hidden: bool = True, scores: bool = True, values: bool = False
    ) -> None:
        stack, paths = encoder_layers(model), layer_paths(model)
        self._heads = int(model.config.num_attention_heads)
        self.states = States(self._heads)
        self._position_bias: Tensor | None = None
        self._handles = [stack[0].register_forward_pre_hook(self._start(hidden and 0 in layers), with_kwargs=True)]
        for number in layers:
            if number == 0:
                continue
            layer = stack[number - 1]
            if hidden:
                self._keep(layer, "hidden", number)
            if scores:
                self._keep(layer.get_submodule(paths.query), "queries", number)
                self._keep(layer.get_submodule(paths.key), "keys", number)
            if values:
                self._keep(layer.get_submodule(paths.value), "values", number)
        relative = getattr(getattr(model.base_model, "encoder", None), "relative_attention_bias", None)
        if scores and relative is not None:
            self._handles.append(relative.register_forward_hook(self._keep_bias))

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _start(self, keep: bool) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.states = States(self._heads, position_bias=self._position_bias)
            if keep:
                self.states.hidden[0] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _keep_bias(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        # MPNet's encoder computes it anew in each pass, before its first layer
        self._position_bias = output.permute(2, 0, 1)[None]  # 1, A, L, L

    def _keep(self, module: nn.Module, name: str, number: int) -> None:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            getattr(self.states, name)[number] = output if isinstance(output, torch.Tensor) else output[0]

        self._handles.append(module.register_forward_hook(hook))


@torch.no_grad()
def attention_maps(
    student: Any, teacher: Any, mapping: Sequence[int], texts: Inputs, tokens: Callable[[np.ndarray], list[str]]
) -> list[dict[str, Any]]:
    """Where teacher and student look in a few short inputs: attention probabilities, the mean over heads.

    Args:
        student, teacher: encoders, with or without a head.
        mapping: g(1)..g(M).
        texts: the first MAPPED_TEXTS that are short are taken, cut to MAPPED_TOKENS tokens.
        tokens: the pieces behind ids.

    Returns:
        For each input {"tokens": [L], "layers": [{"student_layer", "teacher_layer", "student", "teacher"}]}, both maps
        [L, L], rows being queries.
    """
    chosen = np.argsort(texts.lengths[:LOOKED_THROUGH] > MAPPED_TOKENS, kind="stable")[:MAPPED_TEXTS]
    traces = Trace(student, range(1, len(mapping) + 1), hidden=False), Trace(teacher, mapping, hidden=False)
    found = []
    for row in chosen:
        ids = {name: torch.from_numpy(array[:, :MAPPED_TOKENS]) for name, array in texts.batch([row]).items()}
        for model in (student, teacher):
            batch = {name: array.to(model.device) for name, array in ids.items()}
            model.base_model(**model_inputs(model, batch))
        mine, theirs = (trace.states for trace in traces)
        layers = [
            {
                "student_layer": m, "teacher_layer": g,
                "student": _mean_probs(mine, m), "teacher": _mean_probs(theirs, g),
            }
            for m, g in enumerate(mapping, start=1)
        ]  # fmt: skip
        found.append({"tokens": tokens(ids["input_ids"][0].numpy()), "layers": layers})
    for trace in traces:
        trace.close()
    return found


def _mean_probs(states: States, layer: int) -> list[list[float]]:
    probs = states.attention_scores(layer).float().softmax(-1)[0].mean(0)  # L, L
    return [[round(value, 4) for value in row] for row in probs.tolist()]


def describe(student: Any, teacher: Any) -> dict[str, Any]:
    """Shape LAYERS/HIDDEN/FFN/HEADS and parameters of both models."""
    return {
        name: {"shape": _shape(model), "parameters": sum(p.numel() for p in model.parameters())}
        for name, model in (("student", student), ("teacher", teacher))
    }


def _shape(model: Any) -> str:
    layers, config = encoder_layers(model), model.config
    ffn = layers[0].get_parameter(f"{layer_paths(model).ffn_in}.weight").shape[0]
    return f"{len(layers)}/{config.hidden_size}/{ffn}/{config.num_attention_heads}"


def model_inputs(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch the model's forward takes: families without segments do without token_type_ids."""
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0):
        names.append("token_type_ids")
    return {name: batch[name] for name in names}


def head_modules(model: Any) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a classification head: first [D, D], then [C, D].

    Raises:
        ToolkitError: a head that is not known.
    """
    pairs = (("base_model.pooler.dense", "classifier"), ("classifier.dense", "classifier.out_proj"),
             ("pre_classifier", "classifier"))  # fmt: skip
    for first, second in pairs:
        found = [_get(model, first), _get(model, second)]
        if all(isinstance(module, nn.Linear) for module in found):
            return found[0], found[1]
    raise ToolkitError(f"{type(model).__name__} has a classification head that is not known", fix="--init random")


def _get(model: Any, path: str) -> Any:
    for name in path.split("."):
        model = getattr(model, name, None)
    return model


def _unsupported(model: Any) -> ToolkitError:
    return ToolkitError(
        f"{type(model).__name__} keeps its layers where they are not known",
        expected="BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT or MPNet",
    )
