"""An unrolled ALBERT is the same model, layer by layer; what is trained and saved is not unrolled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForSequenceClassification

from toolkit.distillation.recording_check import recording_problem
from toolkit.models.families import encoder_layers
from toolkit.models.loading import Source
from toolkit.models.unrolling import unroll
from toolkit.tasks import Task


def albert(layers: int = 4, vocab_size: int = 90, **changes: int) -> Any:
    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=vocab_size, embedding_size=16, hidden_size=24, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=40, initializer_range=0.3, max_position_embeddings=64, **changes,
    )  # fmt: skip
    return AlbertForSequenceClassification(config).eval()


@pytest.mark.parametrize(("layers", "groups"), [(1, 1), (4, 1), (4, 2), (5, 3)])
def test_answers_weights_and_memory_stay(layers: int, groups: int) -> None:
    model, ids = albert(layers, num_hidden_groups=groups), torch.arange(5, 26).view(3, 7)
    weights = list(model.parameters())
    with torch.no_grad():
        before = model(ids, output_hidden_states=True)
        after = unroll(model)(ids, output_hidden_states=True)
    assert all(torch.equal(*pair) for pair in zip(before.hidden_states, after.hidden_states, strict=True))
    assert torch.equal(before.logits, after.logits)
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert len({id(layer) for layer in encoder_layers(model)}) == layers
    assert recording_problem(model) is None


def test_layers_inside_the_shared_module_stay_as_they_are() -> None:
    model = albert(inner_group_num=2)
    assert unroll(model).config.num_hidden_groups == 1
    assert recording_problem(model) == "its layers have other parts than BERT's"


def test_only_a_model_to_learn_from_is_unrolled(
    tmp_path: Path, save_model: Callable[..., Path], tokenizer: Any
) -> None:
    folder = save_model(albert(vocab_size=tokenizer.get_vocab_size()), tmp_path / "albert")
    source = Source(str(folder), tmp_path / "work")
    assert len(encoder_layers(source.classifier())) == len(encoder_layers(source.encoder_model())) == 4
    trained = source.classifier(Task("auto", ("no", "yes")))
    assert isinstance(groups := trained.base_model.encoder.albert_layer_groups, nn.ModuleList)
    assert len(groups) == trained.config.num_hidden_groups == source.config.num_hidden_groups == 1
