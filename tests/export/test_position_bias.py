"""The bias of relative positions as a table: the model's own scores, and less work in the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from export.onnx_export import export_fp32, load_classifier
from export.position_bias import constant_position_bias
from tests.support.families import padded_batch, save_family
from toolkit.models.families import model_inputs, position_bias, position_count


@pytest.mark.parametrize("length", [1, 2, 17, 64])
def test_it_is_the_models_own_bias(tmp_path: Path, length: int) -> None:
    model = load_classifier(save_family("MPNet", tmp_path / "model"))
    own = position_bias(model, length)
    assert own is not None
    with constant_position_bias(model):
        looked_up = model.base_model.encoder.compute_position_bias(torch.empty(3, length, 8))
    assert torch.equal(looked_up, own)
    again = position_bias(model, length)
    assert again is not None
    assert again.shape == own.shape
    assert "compute_position_bias" not in vars(model.base_model.encoder)


def test_it_reaches_as_far_as_the_positions(tmp_path: Path) -> None:
    model = load_classifier(save_family("MPNet", tmp_path / "model"))
    longest = position_count(model.config)
    with constant_position_bias(model):
        encoder = model.base_model.encoder
        assert encoder.compute_position_bias(torch.empty(1, longest, 8)).shape[-2:] == (longest, longest)
        with pytest.raises(IndexError):
            encoder.compute_position_bias(torch.empty(1, longest + 1, 8))


def test_answers_stay_and_other_families_too(tmp_path: Path) -> None:
    for family in ("MPNet", "Bert"):
        model = load_classifier(save_family(family, tmp_path / family))
        batch = {name: torch.from_numpy(values) for name, values in padded_batch(5, 17).items()}
        inputs = model_inputs(model, batch)
        with torch.inference_mode():
            expected = model(**inputs).logits
            with constant_position_bias(model):
                assert torch.allclose(model(**inputs).logits, expected, atol=1e-6)


def test_the_graph_computes_no_buckets(tmp_path: Path) -> None:
    export_fp32(load_classifier(save_family("MPNet", tmp_path / "model")), tmp_path / "model.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert not operators & {"Log", "Abs", "Min", "Expand"}
