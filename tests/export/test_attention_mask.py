"""The additive mask: transformers 5's own values for padding, its own mask for all else, and none of it afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from export.attention_mask import BUILDER, additive_mask
from export.onnx_export import export_fp32, load_classifier
from tests.support.families import FAMILIES, padded_batch, save_family
from toolkit.models.families import model_inputs

LOWEST = torch.finfo(torch.float32).min


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A BERT whose module builds masks as that of transformers 5 does, whichever version is installed."""

    def build(config: Any, inputs_embeds: Any, attention_mask: Any, **options: Any) -> Any:
        return "its own", options

    model = load_classifier(save_family("Bert", tmp_path))
    monkeypatch.setattr(sys.modules[type(model).__module__], BUILDER, build, raising=False)
    return model


def test_padding_gets_the_lowest_number_and_tokens_nothing(model: Any) -> None:
    module = sys.modules[type(model).__module__]
    own = getattr(module, BUILDER)
    with additive_mask(model):
        mask = getattr(module, BUILDER)(
            config=model.config, inputs_embeds=torch.empty(2, 3, 8), attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]])
        )
        assert mask.tolist() == [[[[0, 0, 0]]], [[[0, LOWEST, LOWEST]]]]
    assert getattr(module, BUILDER) is own


@pytest.mark.parametrize(
    ("mask", "options"),
    [(None, {}), (torch.ones(1, 1, 3, 3), {}), (torch.ones(1, 3), {"encoder_hidden_states": torch.empty(1, 3, 8)})],
)
def test_what_is_more_than_padding_stays_the_models_own(model: Any, mask: Any, options: dict[str, Any]) -> None:
    with additive_mask(model):
        build = getattr(sys.modules[type(model).__module__], BUILDER)
        assert build(model.config, torch.empty(1, 3, 8), mask, **options) == ("its own", options)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_stay(family: str, tmp_path: Path) -> None:
    model = load_classifier(save_family(family, tmp_path))
    inputs = model_inputs(model, {name: torch.from_numpy(values) for name, values in padded_batch(5, 17).items()})
    with torch.inference_mode():
        expected = model(**inputs).logits
        with additive_mask(model):
            assert torch.allclose(model(**inputs).logits, expected, atol=1e-6)


def test_the_graph_compares_no_positions(tmp_path: Path) -> None:
    export_fp32(load_classifier(save_family("Bert", tmp_path / "model")), tmp_path / "model.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert not operators & {"And", "GreaterOrEqual", "Range", "Where", "Expand", "Flatten"}
