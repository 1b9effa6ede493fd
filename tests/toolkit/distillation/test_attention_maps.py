"""Attention maps are the models' own probabilities; sizes are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from tests.support.models import own_hooks
from toolkit.data.tokenization import EncodedTexts
from toolkit.distillation.attention_maps import MAPPED_TOKENS, attention_maps, describe


def test_attention_maps_are_the_models_own(run_bundle: Path, report: dict[str, Any], tokenizer: Any) -> None:
    models = {
        "student": AutoModel.from_pretrained(run_bundle, attn_implementation="eager").eval(),
        "teacher": AutoModel.from_pretrained(report["config"]["teacher"], attn_implementation="eager").eval(),
    }
    assert len(report["attention"]) == 3
    for shown in report["attention"]:
        ids = torch.tensor([[tokenizer.token_to_id(token) for token in shown["tokens"]]])
        assert [(layer["student_layer"], layer["teacher_layer"]) for layer in shown["layers"]] == [(1, 2), (2, 3)]
        for name, model in models.items():
            with torch.no_grad():
                layers = model(ids, output_attentions=True).attentions
            for layer in shown["layers"]:
                expected = layers[layer[f"{name}_layer"] - 1][0].mean(0).numpy()
                np.testing.assert_allclose(layer[name], expected, atol=2e-4)


def test_a_model_is_described_by_its_shape_and_parameters(tiny_bert: Any) -> None:
    model = tiny_bert()
    size = describe(model)
    embeddings = (model.config.vocab_size + 64 + 2) * 24 + 2 * 24
    layer = 4 * (24 * 24 + 24) + (24 * 48 + 48) + (48 * 24 + 24) + 4 * 24
    heads = (24 * 24 + 24) + (24 * 2 + 2)  # pooler, classifier
    assert size == {"shape": "3/24/48/4", "parameters": embeddings + 3 * layer + heads}


def test_short_inputs_come_first_and_long_ones_are_cut(tiny_bert: Any) -> None:
    lengths = [MAPPED_TOKENS + 6, 5, MAPPED_TOKENS + 1, 7]
    ids = [np.full(length, 5 + i) for i, length in enumerate(lengths)]
    texts = EncodedTexts(ids, [np.zeros_like(row) for row in ids], np.zeros(4, dtype=bool), pad_id=0)
    model = tiny_bert()
    maps = attention_maps(model, model, (1, 2, 3), texts, lambda row: [str(i) for i in row])
    assert [entry["tokens"] for entry in maps] == [["6"] * 5, ["8"] * 7, ["5"] * MAPPED_TOKENS]
    for entry in maps:
        for layer in entry["layers"]:
            assert layer["student_layer"] == layer["teacher_layer"]
            assert layer["student"] == layer["teacher"]
            np.testing.assert_allclose(np.sum(layer["student"], axis=1), 1.0, atol=2e-3)
    assert own_hooks(model) == []
