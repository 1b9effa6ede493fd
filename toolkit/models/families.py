"""Model families: the places of their layers, heads and positions, and the inputs that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from toolkit.errors import ToolkitError

STUDENT_TYPES = ("bert", "mpnet")  # Hugging Face's model types that students are built in; every family teaches BERT
# as their authors spell them; transformers 5 no longer tells
NAMES = {
    "albert": "ALBERT", "bert": "BERT", "camembert": "CamemBERT", "deberta-v2": "DeBERTa-v2",
    "distilbert": "DistilBERT", "electra": "ELECTRA", "modernbert": "ModernBERT", "mpnet": "MPNet",
    "roberta": "RoBERTa", "roformer": "RoFormer", "xlm-roberta": "XLM-RoBERTa", "xmod": "X-MOD",
}  # fmt: skip
TorchBatch = dict[str, Tensor]  # input_ids, attention_mask, token_type_ids [B, L]; in training also targets [B, ...]


def activation_name(config: Any) -> str:
    """Return the activation function between the feed-forward layers, by Hugging Face's name."""
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", "gelu"))


def family_name(config: Any) -> str:
    """Return the name that people know an architecture by, such as DeBERTa-v2; else that of its configuration."""
    return NAMES.get(config.model_type) or type(config).__name__.removesuffix("Config")


def student_type(family: str, teacher: Any, start: Any = None) -> str:
    """Return the model type of a student.

    Args:
        family: "bert", "teacher" for the teacher's own, or "auto": the teacher's own where its scores have a bias of
            relative positions, which a BERT has no place for, and the student's first weights are of that type too.
        teacher: the teacher's Hugging Face configuration.
        start: the configuration of the model that the first weights come from; None for the teacher's.

    Raises:
        ToolkitError: no student is built in the teacher's family.
    """
    if family == "auto":
        return "mpnet" if {teacher.model_type, (start or teacher).model_type} == {"mpnet"} else "bert"
    if family == "bert" or teacher.model_type in STUDENT_TYPES:
        return "bert" if family == "bert" else str(teacher.model_type)
    raise ToolkitError(
        f"--student-family teacher: students of {teacher.model_type} cannot be built",
        expected=f"a teacher of {' or '.join(STUDENT_TYPES)}", fix="--student-family bert",
    )  # fmt: skip


def model_class(config: Any, *, head: bool) -> Any:
    """Return Hugging Face's class for a configuration: a classifier, or an encoder without any head."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING

    return (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if head else MODEL_MAPPING)[type(config)]


def hidden_width(model: Any) -> int:
    """Return d of a model, whatever its family calls it."""
    return int(model.config.hidden_size)


def depth(model: Any) -> int:
    """Return the number of encoder layers, of any family."""
    return int(model.config.num_hidden_layers)


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


@dataclass(frozen=True)
class LayerModules:
    """The modules of one encoder layer, by the names of `LayerPaths`."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_out: nn.Linear
    attention_norm: nn.LayerNorm
    ffn_in: nn.Linear
    ffn_out: nn.Linear
    ffn_norm: nn.LayerNorm


BERT_LAYER = LayerPaths(
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
DISTILBERT_LAYER = LayerPaths(
    "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
    "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
)  # fmt: skip
MPNET_LAYER = LayerPaths(
    "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
    "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
ALBERT_LAYER = LayerPaths(
    "albert_layers.0.attention.query", "albert_layers.0.attention.key", "albert_layers.0.attention.value",
    "albert_layers.0.attention.dense", "albert_layers.0.attention.LayerNorm", "albert_layers.0.ffn",
    "albert_layers.0.ffn_output", "albert_layers.0.full_layer_layer_norm",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The architecture behind a `model_type`.

    Attributes:
        layer: None where attention adds positions of its own to Q.K^T, or layers have other parts: such a teacher
            gives its answers alone.
        first_position: row of the position table for the first token; None is the row behind the padding's.
        adapters: after attention a layer treats rows by their language, not tokens alone.
    """

    layer: LayerPaths | None
    first_position: int | None = 0
    adapters: bool = False


FAMILIES = {
    **dict.fromkeys(("bert", "electra"), Family(BERT_LAYER)),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "data2vec-text"), Family(BERT_LAYER, None)),
    "xmod": Family(BERT_LAYER, None, adapters=True),
    "distilbert": Family(DISTILBERT_LAYER),
    "mpnet": Family(MPNET_LAYER, 2),
    "albert": Family(ALBERT_LAYER),
    **dict.fromkeys(("roformer", "nezha", "convbert"), Family(None)),
    **dict.fromkeys(
        ("longformer", "roberta-prelayernorm", "xlm-roberta-xl", "ibert", "luke", "esm"), Family(None, None)
    ),
}
UNBOUNDED = 512  # tokens for a model without a table of positions, such as one with relative positions


def position_offset(model_type: str, pad_token_id: int | None) -> int:
    """Count the rows of the position table before the first real position: pad + 1 where padding has a position."""
    first = FAMILIES[model_type].first_position if model_type in FAMILIES else 0
    if first is not None:
        return first
    assert pad_token_id is not None, f"{model_type} counts its positions from its padding"
    return pad_token_id + 1


def counts_positions_from_zero(config: Any) -> bool:
    """Return whether a model of a known family looks up position 0 for its first token, 1 for the second, and so on."""
    family = FAMILIES.get(config.model_type)
    return family is not None and family.layer is not None and family.first_position == 0


def position_count(config: Any) -> int:
    """Return the number of tokens that a model has positions for; UNBOUNDED where it has no table of them."""
    rows = getattr(config, "max_position_embeddings", None) or 0
    return rows - position_offset(config.model_type, config.pad_token_id) if rows > 0 else UNBOUNDED


def encoder_layers(model: Any) -> nn.ModuleList:
    """Return the stack of encoder layers of a Hugging Face model, an ALBERT's after `unroll`.

    Raises:
        ToolkitError: an unsupported family; the message names the supported ones.
    """
    for path in ("encoder.layer", "transformer.layer", "encoder.albert_layer_groups"):
        layers = _get(model.base_model, path)
        if isinstance(layers, nn.ModuleList) and len(layers) == depth(model):
            return layers
    raise _unsupported(model)


def layer_paths(model: Any) -> LayerPaths:
    """Return the paths of a layer's parts in this model; a family beyond the table is known by its modules' names.

    Raises:
        ToolkitError: an unsupported family.
    """
    model_type = model.config.model_type
    known = [FAMILIES[model_type].layer] if model_type in FAMILIES else [BERT_LAYER, DISTILBERT_LAYER, MPNET_LAYER]
    names = {name for name, _ in encoder_layers(model)[0].named_modules()}
    for paths in filter(None, known):
        if {paths.query, paths.key, paths.value, paths.attention_norm, paths.ffn_norm} <= names:
            return paths
    raise _unsupported(model)


def treats_tokens_alone(model: Any) -> bool:
    """Return whether a layer is BERT's and treats each token alone after its attention."""
    if model.config.model_type in FAMILIES:
        family = FAMILIES[model.config.model_type]
        return family.layer is BERT_LAYER and not family.adapters
    try:
        return layer_paths(model) is BERT_LAYER
    except ToolkitError:
        return False


def layer_modules(model: Any) -> list[LayerModules]:
    """Return the modules of every layer, from the lowest.

    Raises:
        ToolkitError: an unsupported family.
    """
    paths: dict[str, str] = vars(layer_paths(model))
    return [
        LayerModules(**{name: layer.get_submodule(path) for name, path in paths.items()})  # type: ignore[arg-type]
        for layer in encoder_layers(model)
    ]


def embedding_projection(model: Any) -> nn.Linear | None:
    """Return the layer [D, E] behind embeddings of their own width E (ELECTRA, ALBERT); None where there is none."""
    for path in ("embeddings_project", "encoder.embedding_hidden_mapping_in"):
        if (linear := _get(model.base_model, path)) is not None:
            return cast(nn.Linear, linear)
    return None


def position_bias_table(model: Any) -> Any | None:
    """Return MPNet's table of relative positions [buckets, A], which all layers share; None for other families."""
    return getattr(getattr(model.base_model, "encoder", None), "relative_attention_bias", None)


def position_bias(model: Any, length: int) -> Tensor | None:
    """Compute the summand [1, A, L, L] of attention scores by relative position; None for families without it."""
    if position_bias_table(model) is None:
        return None
    bias: Tensor = model.base_model.encoder.compute_position_bias(torch.empty(1, length, 1))
    return bias


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
             ("pre_classifier", "classifier"), ("base_model.pooler", "classifier"))  # fmt: skip
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
        f"the layers of {type(model).__name__} cannot be learnt from: their scores and states are not known",
        expected="BERT, RoBERTa, XLM-R, CamemBERT, X-MOD, data2vec-text, ELECTRA, ALBERT, DistilBERT or MPNet",
        fix="a teacher of one of these families; toolkit distill of a task takes any, by its answers",
    )
