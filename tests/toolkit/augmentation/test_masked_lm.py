"""The cut-down masked language model: the whole one's logits of the words, in bf16 only where batches do not count."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    MPNetConfig,
    MPNetForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    XmodConfig,
    XmodForMaskedLM,
)

from toolkit.augmentation.masked_lm import is_batch_invariant, masked_logits, restrict_to_words

CPU = torch.device("cpu")
WORDS = [7, 8, 11, 30, 39]
SIZES = {"vocab_size": 40, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
         "num_attention_heads": 2, "initializer_range": 0.1}  # fmt: skip
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES)),
    "xmod": lambda: XmodForMaskedLM(XmodConfig(languages=["en_XX"], default_language="en_XX", **SIZES)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES)),
    "mpnet": lambda: MPNetForMaskedLM(MPNetConfig(**SIZES)),
    "electra": lambda: ElectraForMaskedLM(ElectraConfig(**SIZES, embedding_size=32)),
    "distilbert": lambda: DistilBertForMaskedLM(
        DistilBertConfig(vocab_size=40, n_layers=2, dim=32, hidden_dim=64, n_heads=2, initializer_range=0.1)
    ),
}


def built(name: str = "bert") -> Any:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def batch(rows: int = 5, length: int = 9) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 40, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


PLACES = torch.tensor([[0, 3], [0, 5], [2, 8], [4, 1]])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("places", [PLACES, PLACES[1:2]])
@torch.no_grad()
def test_the_words_logits_are_the_whole_models(name: str, places: torch.Tensor) -> None:
    model = built(name)
    whole = model(batch()["input_ids"], attention_mask=batch()["attention_mask"]).logits
    expected = whole[places[:, 0], places[:, 1]][:, WORDS]
    cut, precision = restrict_to_words(model, WORDS, "fp32", CPU)
    assert precision == "fp32"
    torch.testing.assert_close(masked_logits(cut, batch(), places), expected)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_bf16_is_near_and_its_logits_are_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "toolkit.augmentation.masked_lm.is_batch_invariant", lambda _: True
    )  # also where this machine's kernels are not
    model = built(name)
    exact, _ = restrict_to_words(copy.deepcopy(model), WORDS, "fp32", CPU)
    rounded, precision = restrict_to_words(model, WORDS, "bf16", CPU)
    assert precision == "bf16"
    assert {parameter.dtype for parameter in rounded.base_model.parameters()} == {torch.bfloat16}
    logits, expected = (masked_logits(masked, batch(), PLACES) for masked in (rounded, exact))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
    assert not torch.equal(logits, expected)


def test_a_model_whose_logits_depend_on_the_batch_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_batch_invariant(built())
    model = built()
    unsteady = copy.deepcopy(model)
    unsteady.bert.embeddings.register_forward_hook(lambda _, __, states: states * (1 + len(states) / 500))
    assert not is_batch_invariant(unsteady)
    before = {name: value.clone() for name, value in unsteady.bert.state_dict().items()}
    cut, precision = restrict_to_words(unsteady, WORDS, "bf16", CPU)
    assert precision == "fp32"
    assert all(torch.equal(value, before[name]) for name, value in cut.bert.state_dict().items())


@pytest.mark.parametrize(("flags", "expected"), [(["avx2"], "fp32"), (["avx2", "avx512_bf16"], "bf16")])
def test_auto_is_what_the_cpu_multiplies_in(
    flags: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("toolkit.training.precision.cpu_flags", lambda: flags)
    monkeypatch.setattr("toolkit.augmentation.masked_lm.is_batch_invariant", lambda _: True)
    assert restrict_to_words(built(), WORDS, "auto", CPU)[1] == expected


@torch.no_grad()
def test_the_last_layer_goes_on_with_the_masked_places_alone() -> None:
    model = built()
    shapes: list[tuple[int, ...]] = []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _, states, __: shapes.append(tuple(states[0].shape)))
    masked_logits(model, batch(), PLACES)
    assert shapes == [(5, 9, 32), (1, 4, 32)]
    assert model(batch()["input_ids"]).logits.shape == (5, 9, 40)  # nothing is left behind
