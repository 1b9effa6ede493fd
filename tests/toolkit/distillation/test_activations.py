"""Hooks give the model's own attention: softmax of the scores equals output_attentions, for every family."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import transformers

from toolkit.distillation.activations import ActivationRecorder
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


def build(family: str, attention: str | None = None) -> Any:
    torch.manual_seed(3)
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_config(FAMILIES[family](), attn_implementation=attention)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)  # far from uniform attention
    return unroll(model).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_states_are_the_models_own(family: str) -> None:
    batch = {"input_ids": torch.randint(5, 90, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    fast = build(family)
    recorder = ActivationRecorder(fast, [0, 2, 4], values=True)
    with torch.no_grad():
        fast(**batch)
    states = recorder.activations
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slow = build(family, "eager")(**batch, output_attentions=True, output_hidden_states=True)
    assert sorted(states.hidden) == [0, 2, 4]
    assert sorted(states.queries) == sorted(states.keys) == sorted(states.values) == [2, 4]
    torch.testing.assert_close(states.hidden[0], slow.hidden_states[0])
    for layer in (2, 4):
        torch.testing.assert_close(states.attention_scores(layer).softmax(-1), slow.attentions[layer - 1])
        torch.testing.assert_close(states.hidden[layer], slow.hidden_states[layer])
        off = states.attention_scores(layer).softmax(-1) - slow.attentions[layer - 2]
        assert off.abs().max() > 1e-3  # another layer's would not have passed


def test_mpnet_scores_hold_the_position_bias() -> None:
    model = build("mpnet")
    recorder = ActivationRecorder(model, [1])
    with torch.no_grad():
        model(input_ids=torch.randint(5, 90, (1, 6)))
        with_bias = recorder.activations.attention_scores(1)
        model.base_model.encoder.relative_attention_bias.weight.zero_()
        model(input_ids=torch.randint(5, 90, (1, 6)))
    assert recorder.activations.position_bias is not None
    assert recorder.activations.position_bias.abs().max() == 0
    assert with_bias.shape == recorder.activations.attention_scores(1).shape == (1, 3, 6, 6)


def test_what_is_not_asked_for_is_not_kept_and_close_stops_it() -> None:
    model = build("bert")
    recorder = ActivationRecorder(model, [0, 3], hidden=False)
    with torch.no_grad():
        model(input_ids=torch.randint(5, 90, (1, 4)))
    states = recorder.activations
    assert states.hidden == {}
    assert list(states.queries) == [3]
    assert states.values == {}
    recorder.close()
    with torch.no_grad():
        model(input_ids=torch.randint(5, 90, (1, 4)))
    assert recorder.activations is states


def test_scores_carry_gradients_to_queries_and_keys() -> None:
    model = build("bert")
    recorder = ActivationRecorder(model, [2])
    model.base_model(input_ids=torch.randint(5, 90, (1, 4)))
    recorder.activations.attention_scores(2).square().sum().backward()
    attention = model.base_model.encoder.layer[1].attention.self
    assert attention.query.weight.grad.abs().sum() > 0
    assert attention.key.weight.grad.abs().sum() > 0
    assert attention.value.weight.grad is None
