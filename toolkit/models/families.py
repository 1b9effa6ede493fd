"""Model families: the places of their layers, heads and positions, and the inputs that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from toolkit.errors import ToolkitError

TorchBatch = dict[str, Tensor]  # input_ids, attention_mask, token_type_ids [B, L]; in training also targets [B, ...]


def position_offset(model_type: str, pad_token_id: int | None) -> int:
    """Count the rows of the position table before the first real position: pad + 1 where padding has a position."""
    if model_type not in ("roberta", "xlm-roberta", "mpnet"):
        return 0
    assert pad_token_id is not None, f"{model_type} counts its positions from its padding"
    return pad_token_id + 1


def hidden_width(model: Any) -> int:
    """Return d of a model, whatever its family calls it."""
    return int(model.config.hidden_size)


def depth(model: Any) -> int:
    """Return the number of encoder layers."""
    return len(encoder_layers(model))


@dataclass(frozen=True)
class LayerPaths:
    """The parts of an encoder layer in a family, as dotted module paths inside the layer."""

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
    """Return the stack of encoder layers of a Hugging Face model.

    Raises:
        ToolkitError: an unsupported family; the message names the supported ones.
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
    """Return the paths of a layer's parts in this model's family.

    Raises:
        ToolkitError: an unsupported family.
    """
    names = {name for name, _ in encoder_layers(model)[0].named_modules()}
    for family in FAMILIES:
        if {family.query, family.key, family.value, family.attention_norm, family.ffn_norm} <= names:
            return family
    raise _unsupported(model)


def model_inputs(model: Any, batch: TorchBatch) -> TorchBatch:
    """Select the tensors of a batch that the model's forward takes: families without segments get no token_type_ids."""
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0):
        names.append("token_type_ids")
    return {name: batch[name] for name in names}


def head_modules(model: Any) -> tuple[nn.Linear, nn.Linear]:
    """Return the two linear layers of a classification head: first [D, D], then [C, D].

    Raises:
        ToolkitError: a head that is not known.
    """
    pairs = (("base_model.pooler.dense", "classifier"), ("classifier.dense", "classifier.out_proj"),
             ("pre_classifier", "classifier"))  # fmt: skip
    for first, second in pairs:
        modules = (_get(model, first), _get(model, second))
        if all(isinstance(module, nn.Linear) for module in modules):
            return modules
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
