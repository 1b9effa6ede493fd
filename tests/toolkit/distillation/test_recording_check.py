"""Recorded activations are compared with the model's own: families that differ are found, whatever they are called."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.models import own_hooks
from tests.toolkit.distillation.test_activations import FAMILIES as CONFIGS
from tests.toolkit.distillation.test_activations import build
from toolkit.distillation.activations import ActivationRecorder
from toolkit.distillation.recording_check import check_recording, recording_problem
from toolkit.errors import ToolkitError
from toolkit.models import families
from toolkit.models.families import BERT_LAYER, Family


@pytest.mark.parametrize("family", CONFIGS)
def test_supported_families_pass_and_stay_as_they_were(family: str) -> None:
    model, before = build(family), build(family)
    assert recording_problem(model) is None
    assert recording_problem(model.base_model) is None
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert own_hooks(model) == []


@pytest.mark.parametrize("family", ["camembert", "data2vec-text", "xmod", "mpnet"])
def test_a_wrong_offset_of_positions_is_found(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(family)
    monkeypatch.setitem(families.FAMILIES, family, Family(families.FAMILIES[family].layer))
    assert recording_problem(model) == "its positions begin at 2, not at 0"


def test_scores_without_a_part_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActivationRecorder, "_record_position_bias", lambda *_args: None)
    with pytest.raises(ToolkitError, match="the attention recorded of layer 1 differs from its own by up to") as caught:
        check_recording(build("mpnet"), "it")
    assert "another --teacher" in caught.value.fix


def test_states_of_another_layer_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ActivationRecorder._record

    def swapped(self: Any, module: Any, kind: str, number: int) -> None:
        record(self, module, kind, {2: 3, 3: 2}.get(number, number) if kind == "hidden" else number)

    monkeypatch.setattr(ActivationRecorder, "_record", swapped)
    assert "the states recorded of layer 2 differ" in str(recording_problem(build("bert")))


@pytest.mark.parametrize("family", ["RoFormer", "Nezha"])
def test_families_with_positions_inside_attention_are_found(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    if not hasattr(transformers, f"{family}Config"):
        pytest.skip("transformers 5 has no Nezha")
    sizes = {"vocab_size": 90, "num_hidden_layers": 2, "hidden_size": 24, "intermediate_size": 40}
    config = getattr(transformers, f"{family}Config")(num_attention_heads=3, **sizes)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    assert "its layers have other parts than BERT's" in str(recording_problem(model))
    monkeypatch.setitem(families.FAMILIES, config.model_type, Family(BERT_LAYER))
    assert recording_problem(model) == "it has no table of positions"
    model.base_model.embeddings.position_embeddings = torch.nn.Embedding(512, 24)
    assert recording_problem(model) == "it looks up no positions"
    table, layer = model.base_model.embeddings.position_embeddings, model.base_model.encoder.layer[0]

    def look_up(*_args: object) -> None:
        table(torch.arange(8))

    layer.register_forward_pre_hook(look_up)  # attention alone is left to differ
    assert "the attention recorded of layer 1 differs" in str(recording_problem(model))
