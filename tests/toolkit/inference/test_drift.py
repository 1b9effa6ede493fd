"""The population stability index by hand, and what inputs are counted by."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.data import rows
from tests.support.watching import traits_of
from toolkit.bundle.baseline import Baseline
from toolkit.inference.drift import Reference, Traits, count_labels, make_baseline, stability_index
from toolkit.inference.predictor import open_predictor

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=12).filter(any)


def test_the_index_is_the_one_worked_out_by_hand() -> None:
    """Shares 0.5, 0.5 against 0.8, 0.2: 0.3 ln 1.6 - 0.3 ln 0.4 = 0.3 ln 4."""
    assert stability_index(np.array([50, 50]), np.array([8, 2])) == pytest.approx(0.3 * math.log(4))
    empty = stability_index(np.array([10, 0]), np.array([9, 1]))
    by_hand = -0.1 * math.log(0.9) + (0.1 - 1e-4) * math.log(0.1 / 1e-4)
    assert empty == pytest.approx(by_hand), "an empty bin counts as one row in ten thousand"


@given(COUNTS, st.data())
def test_it_is_0_for_equal_shares_and_never_negative(counts: list[int], data: st.DataObject) -> None:
    expected = np.array(counts)
    times = data.draw(st.integers(1, 1000))
    assert stability_index(expected, expected * times) == pytest.approx(0, abs=1e-9)
    size = len(counts)
    observed = np.array(data.draw(st.lists(st.integers(0, 10**6), min_size=size, max_size=size).filter(any)))
    assert stability_index(expected, observed) >= 0
    assert stability_index(expected, observed) == pytest.approx(stability_index(observed, expected))


def test_traits_are_those_that_one_counts_one_by_one(tiny_onnx: Path) -> None:
    predictor = open_predictor(tiny_onnx, threads=1)
    texts = ["a good film", "\u6f22 bad \u5b57", "the"]
    traits = traits_of(predictor, texts)
    encoded = predictor.encoder.encode(texts)
    best = predictor.scores(predictor.logits(encoded)).argmax(axis=1)
    assert traits.labels.tolist() == [(best == 0).sum(), (best == 1).sum(), 0]
    assert traits.length.tolist() == [len(ids) for ids in encoded.ids]
    unknown = [predictor.encoder.tokens(ids).count("[UNK]") for ids in encoded.ids]
    assert sum(unknown) > 0
    assert traits.unknown.tolist() == [count / len(ids) for count, ids in zip(unknown, encoded.ids, strict=True)]
    none = Traits.of("classification", np.zeros((2, 2)), [np.array([], dtype=np.int64), np.array([7])], None)
    assert none.unknown.tolist() == [0, 0], "no tokens, and a tokenizer without unknown pieces"


def test_labels_are_counted_by_the_kind_of_the_task() -> None:
    scores = np.array([[0.6, 0.4, 0.5], [0.2, 0.1, 0.3]])
    assert count_labels(scores, "classification").tolist() == [1, 0, 1, 0]
    assert count_labels(scores, "multi_label").tolist() == [1, 0, 1, 1], "one input has two labels, the other none"
    assert count_labels(scores, "regression").tolist() == []


def many_labels() -> Baseline:
    """30 labels, of which label i answered i rows; 7 tokens in all but the longest tenth."""
    labels = np.append(np.arange(30), 0)
    lengths = np.where(np.arange(435) < 400, 7, 9)
    return make_baseline(Traits(labels, np.linspace(0, 1, 435), lengths, np.zeros(435)), "dev", "0" * 64)


def test_bins_are_deciles_and_equal_values_share_one() -> None:
    baseline = many_labels()
    assert baseline["confidence"]["counts"] == pytest.approx([43.5] * 10, abs=1)
    assert baseline["length"] == {"edges": [7.0], "counts": [400, 35]}
    assert baseline["unknown"] == {"edges": [0.0], "counts": [435, 0]}


def test_the_rarest_of_many_labels_share_a_bin() -> None:
    baseline = many_labels()
    reference = Reference(baseline)
    same = Traits(np.append(np.arange(30), 0), np.linspace(0, 1, 435), np.where(np.arange(435) < 400, 7, 9),
                  np.zeros(435))  # fmt: skip
    counts = reference.count(same)
    assert reference.size == len(counts) == 10 + 10 + 2 + 2
    assert counts[:10].tolist() == [29, 28, 27, 26, 25, 24, 23, 22, 21, sum(range(21))]
    assert reference.indices(counts) == pytest.approx(dict.fromkeys(("labels", "confidence", "length", "unknown"), 0))


def test_a_regression_has_no_labels_to_drift_by() -> None:
    traits = Traits.of("regression", np.array([[1.5], [2.5]]), [np.array([1, 2])] * 2, 2)
    assert traits.confidence.tolist() == [1.5, 2.5]
    baseline = make_baseline(traits, "dev", "0" * 64)
    assert (baseline["labels"], baseline["unlabelled"]) == ([], 0)
    reference = Reference(baseline)
    assert set(reference.indices(reference.count(traits))) == {"confidence", "length", "unknown"}


def test_texts_of_another_kind_differ_and_of_the_same_do_not(watched: Path) -> None:
    predictor = open_predictor(watched, threads=1)
    assert predictor.baseline is not None
    reference = Reference(predictor.baseline)

    def indices(texts: list[str]) -> dict[str, float]:
        return reference.indices(reference.count(traits_of(predictor, texts)))

    same = [text for text, _ in rows(1000, seed=32)]
    assert max(indices(same).values()) < 0.1
    positive = [text for text, best in zip(same, predictor.predict(same).argmax(axis=1), strict=True) if best == 1]
    assert indices(positive)["labels"] > 0.25
    other = indices(["\u6f22 good \u5b57 great " * 9] * 1000)
    assert min(other[trait] for trait in ("confidence", "length", "unknown")) > 0.25
