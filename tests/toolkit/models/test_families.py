"""Every family's parts are where its own forward pass uses them; another family is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification

from toolkit.errors import ToolkitError
from toolkit.models.families import (
    depth,
    encoder_layers,
    head_modules,
    hidden_width,
    layer_modules,
    layer_paths,
    model_class,
    model_inputs,
    position_bias,
    position_count,
    position_offset,
)
from toolkit.models.unrolling import unroll

SIZES = {"vocab_size": 90, "num_hidden_layers": 4, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3}
FAMILIES = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.RobertaConfig(**SIZES),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SIZES),
    "camembert": lambda: transformers.CamembertConfig(**SIZES),
    "data2vec-text": lambda: transformers.Data2VecTextConfig(**SIZES),
    "xmod": lambda: transformers.XmodConfig(languages=["en_XX"], default_language="en_XX", **SIZES),
    "electra": lambda: transformers.ElectraConfig(embedding_size=16, **SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(vocab_size=90, n_layers=4, dim=24, hidden_dim=40, n_heads=3),
    "mpnet": lambda: transformers.MPNetConfig(**SIZES),
    "albert": lambda: transformers.AlbertConfig(embedding_size=16, **SIZES),
}


def build(family: str) -> Any:
    torch.manual_seed(0)
    return unroll(AutoModelForSequenceClassification.from_config(FAMILIES[family]())).eval()


def test_unknown_family_is_named() -> None:
    model = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)
    )
    with pytest.raises(ToolkitError, match="GPT2ForSequenceClassification") as caught:
        encoder_layers(model)
    assert "DistilBERT" in caught.value.expected


def test_an_unknown_head_is_refused() -> None:
    model = build("bert")
    assert head_modules(model)[1] is model.classifier
    model.classifier = nn.Sequential(model.classifier)
    with pytest.raises(ToolkitError, match="BertForSequenceClassification has a classification head that is not known"):
        head_modules(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_of_a_family(family: str) -> None:
    model = build(family)
    assert (hidden_width(model), depth(model), len(encoder_layers(model))) == (24, 4, 4)
    paths = layer_paths(model)
    shapes = {
        name: tuple(encoder_layers(model)[0].get_submodule(getattr(paths, name)).weight.shape)
        for name in ("query", "key", "value", "attention_out", "attention_norm", "ffn_in", "ffn_out", "ffn_norm")
    }
    square = dict.fromkeys(("query", "key", "value", "attention_out"), (24, 24))
    assert shapes == square | {
        "attention_norm": (24,), "ffn_in": (40, 24), "ffn_out": (24, 40), "ffn_norm": (24,),
    }  # fmt: skip
    first, last = head_modules(model)
    assert (first.weight.shape, last.weight.shape) == ((24, 24), (2, 24))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_takes_the_inputs_that_are_selected_for_it(family: str) -> None:
    batch = {name: torch.ones(2, 5, dtype=torch.long) for name in ("input_ids", "attention_mask", "token_type_ids")}
    batch |= {"targets": torch.zeros(2), "labelled": torch.ones(2, dtype=torch.bool)}
    inputs = model_inputs(build(family), batch)
    assert ("token_type_ids" in inputs) is (family not in ("distilbert", "mpnet"))
    assert not {"targets", "labelled"} & set(inputs)
    assert build(family)(**inputs).logits.shape == (2, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_begin_behind_the_offset(family: str) -> None:
    """The first real token takes the row at the offset: a change of that row alone changes its state."""
    model, ids = build(family), torch.tensor([[7]])
    config, table = model.config, model.base_model.embeddings.position_embeddings.weight
    offset = position_offset(config.model_type, config.pad_token_id)
    assert offset == (0 if family in ("bert", "electra", "distilbert", "albert") else 2)
    with torch.no_grad():
        before = model.base_model.embeddings(input_ids=ids)
        changes = []
        for row in range(4):
            table[row] += 1.0 + torch.arange(table.shape[1])
            changes.append(not torch.equal(model.base_model.embeddings(input_ids=ids), before))
            table[row] -= 1.0 + torch.arange(table.shape[1])
            before = model.base_model.embeddings(input_ids=ids)
    assert changes == [row == offset for row in range(4)]


def test_a_family_that_counts_from_its_padding_needs_one() -> None:
    assert position_offset("bert", None) == 0
    assert position_offset("roberta", 0) == 1
    with pytest.raises(AssertionError, match="roberta"):
        position_offset("roberta", None)


@pytest.mark.parametrize(
    "family",
    ["RoFormer", "ConvBert", "Longformer", *(["Nezha"] if hasattr(transformers, "NezhaConfig") else [])],  # 5 has none
)
def test_layers_that_compute_something_else_under_the_same_names_are_refused(family: str) -> None:
    config = getattr(transformers, f"{family}Config")(**SIZES)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    with pytest.raises(ToolkitError, match=f"the layers of {family}ForSequenceClassification cannot be learnt from"):
        layer_paths(model)


def test_a_family_beyond_the_table_is_known_by_its_modules() -> None:
    model = transformers.ErnieForSequenceClassification(transformers.ErnieConfig(**SIZES))
    assert layer_paths(model).query == "attention.self.query"
    with pytest.raises(ToolkitError, match="DebertaV2ForSequenceClassification"):
        layer_paths(transformers.DebertaV2ForSequenceClassification(transformers.DebertaV2Config(**SIZES)))


def test_positions_are_those_behind_the_offset_or_as_many_as_one_likes() -> None:
    assert position_count(transformers.BertConfig(max_position_embeddings=66)) == 66
    assert position_count(transformers.CamembertConfig(max_position_embeddings=66, pad_token_id=1)) == 64
    assert position_count(transformers.XLNetConfig()) == position_count(transformers.T5Config()) == 512


def test_position_bias_is_what_mpnet_adds_to_its_scores() -> None:
    """Layer 1 with queries of zeros: its attention probabilities are softmax of the bias alone."""
    model = build("mpnet")
    layer = layer_modules(model)[0]
    with torch.no_grad():
        layer.query.weight.zero_()
        layer.query.bias.zero_()
        model.base_model.set_attn_implementation("eager") if hasattr(model, "set_attn_implementation") else None
        output = model(input_ids=torch.arange(5, 12)[None], output_attentions=True)
        bias = position_bias(model, 7)
    assert bias is not None
    torch.testing.assert_close(output.attentions[0], bias.softmax(-1))
    assert position_bias(build("bert"), 7) is None


def test_classes_of_a_configuration() -> None:
    assert model_class(transformers.MPNetConfig(), head=True) is transformers.MPNetForSequenceClassification
    assert model_class(transformers.BertConfig(), head=False) is transformers.BertModel
