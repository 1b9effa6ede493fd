"""Weights of losses are read as they are spelt, and what cannot be read is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from toolkit.config import DistillConfig
from toolkit.config.losses import LOSSES, OBJECTIVES, layer_options, parse_weights, weight_problems


def test_weights_are_numbers_by_name() -> None:
    assert parse_weights("attention=1, hidden=.5,label=2e-1") == {"attention": 1.0, "hidden": 0.5, "label": 0.2}
    assert parse_weights("") == {}
    assert list(weight_problems("attention=1,hidden=.5,label=2e-1")) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [("warmth=1", "NAME one of attention"), ("hidden=1,hidden=2", "hidden is given twice"), ("hidden=-1", "0 or more")],
)
def test_what_is_no_weight_is_named(text: str, problem: str) -> None:
    assert problem in " ".join(weight_problems(text))


def test_objectives_are_made_of_losses() -> None:
    assert {name for names in OBJECTIVES.values() for name in names} < set(LOSSES)


def test_options_that_read_layers_are_listed() -> None:
    config = DistillConfig("t", "sst2", "o", loss="hidden=2,attention=0", intermediate_epochs=3, layer_map="top")
    assert layer_options(config) == ["--loss hidden", "--intermediate-epochs 3", "--layer-map top"]
    others = replace(config, loss=None, intermediate_epochs=0, layer_map="uniform", objective="relations")
    assert layer_options(replace(others, relation_heads=2, shared_projection=True)) == [
        "--objective relations", "--relation-heads 2", "--shared-projection",
    ]  # fmt: skip
    assert layer_options(DistillConfig("t", "sst2", "o").resolved().without_derived()) == []
