"""Classifiers whose answers depend on padding, or that take no mask, are refused before they are trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from toolkit.errors import ToolkitError
from toolkit.models.trial import check_classifier, trial_batch

SIZES: dict[str, Any] = {
    "vocab_size": 90, "num_hidden_layers": 2, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4,
    "initializer_range": 0.2,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "Albert": SIZES | {"embedding_size": 16}, "Longformer": SIZES | {"attention_window": 4}, "ConvBert": SIZES,
    "FNet": SIZES, "XLNet": {"vocab_size": 90, "d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "Funnel": {"vocab_size": 90, "block_sizes": [1, 1, 1], "d_model": 24, "n_head": 4, "d_head": 6, "d_inner": 48,
               "initializer_range": 0.5},
    "T5": {"vocab_size": 90, "d_model": 24, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4},
}  # fmt: skip


def build(family: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**OTHERS.get(family, SIZES))
    return getattr(transformers, f"{family}ForSequenceClassification")(config)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "MPNet", "Albert", "RoFormer", "Longformer"])
def test_classifiers_that_mask_their_padding_pass(family: str) -> None:
    model = build(family)
    check_classifier(model, "it")
    assert not model.training


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        # transformers 4's takes no mask, that of 5 takes one and does not read it
        ("FNet", "fails on a batch: .*attention_mask|answers by its padding"), ("T5", "is an encoder with a decoder"),
        ("XLNet", "answers by its padding"), ("Funnel", "answers by its padding"),
        ("ConvBert", "answers by its padding"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")  # Funnel's own
def test_others_are_refused_with_the_reason(family: str, reason: str) -> None:
    with pytest.raises(ToolkitError, match=reason) as caught:
        check_classifier(build(family), "it")
    assert f"{family}ForSequenceClassification" in caught.value.problem
    assert "attention mask" in caught.value.expected


@pytest.mark.parametrize("pad", [0, 1, 89])
def test_a_trial_s_batch_has_padding_where_its_mask_says_so_alone(pad: int) -> None:
    batch = trial_batch(transformers.BertConfig(vocab_size=90, pad_token_id=pad), 5, 9, 2)
    assert batch["attention_mask"].sum(1).tolist() == [5, 9, 2]
    assert torch.equal(batch["input_ids"] == pad, batch["attention_mask"] == 0)
    assert int(batch["input_ids"].max()) < 90
