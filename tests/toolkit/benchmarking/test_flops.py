"""Closed formulas against the real models and against torch's own operation counter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, BertModel, RobertaConfig

from toolkit.benchmarking.flops import BertShape

TINYBERT4 = BertShape(layers=4, hidden=312, ffn=1200)


def config_of(shape: BertShape, heads: int) -> BertConfig:
    return BertConfig(
        num_hidden_layers=shape.layers, hidden_size=shape.hidden, intermediate_size=shape.ffn,
        vocab_size=shape.vocabulary, max_position_embeddings=shape.positions, type_vocab_size=shape.types,
        num_attention_heads=heads, num_labels=shape.classes, attn_implementation="eager",
    )  # fmt: skip


def counted_flops(model: Any, length: int, batch_size: int) -> int:
    """torch's count of every matrix product, plus one for each number a bias is added to."""
    biases = 0

    def add(module: torch.nn.Linear, _: Any, output: torch.Tensor) -> None:
        nonlocal biases
        biases += output.numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(add)
    ids = torch.ones(batch_size, length, dtype=torch.int64, device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=ids)
    return counter.get_total_flops() + biases


def test_published_counts() -> None:
    assert BertShape().parameters == 109_482_240
    assert TINYBERT4.parameters == 14_350_248
    assert BertShape().parameters / TINYBERT4.parameters == pytest.approx(7.63, abs=0.005)
    with_projection = TINYBERT4.parameters + TINYBERT4.projection_parameters(768)
    assert TINYBERT4.projection_parameters(768) == 312 * 768
    assert BertShape().parameters / with_projection == pytest.approx(7.50, abs=0.005)


def test_published_flops() -> None:
    base, student = BertShape().flops(128), TINYBERT4.flops(128)
    assert f"{base / 1e9:.3g}" == "22.4"
    assert f"{student / 1e9:.3g}" == "1.25"
    assert f"{base / student:.1f}" == "17.9"


def test_formulas_equal_bert_base_itself() -> None:
    with torch.device("meta"):
        bare = BertModel(BertConfig(attn_implementation="eager"))
        classifier = BertForSequenceClassification(BertConfig(num_labels=3, attn_implementation="eager")).eval()
    shape = replace(BertShape(), classes=3)
    assert sum(parameter.numel() for parameter in bare.parameters()) == BertShape().parameters
    assert sum(parameter.numel() for parameter in classifier.parameters()) == shape.parameters
    assert counted_flops(classifier, 128, 1) == shape.flops(128)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 8), st.integers(1, 40), st.integers(8, 90),
    st.integers(16, 40), st.integers(1, 3), st.integers(2, 5), st.integers(1, 16), st.integers(1, 3),
)  # fmt: skip
def test_formulas_equal_any_real_model(
    layers: int, heads: int, width: int, ffn: int, vocabulary: int, positions: int, types: int, classes: int,
    length: int, batch_size: int,
) -> None:  # fmt: skip
    shape = BertShape(layers, heads * width, ffn, vocabulary, positions, types, classes)
    model = BertForSequenceClassification(config_of(shape, heads)).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters
    assert counted_flops(model, length, batch_size) == batch_size * shape.flops(length)
    assert BertShape.from_config(model.config.to_dict()) == shape


def test_only_bert_has_the_formula() -> None:
    assert BertShape.from_config(RobertaConfig().to_dict()) is None
