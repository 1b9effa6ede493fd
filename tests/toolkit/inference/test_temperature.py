"""Temperatures: known ones are recovered, by hand where that is possible, and labels never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toolkit.bundle.calibration import LEAST_TEMPERATURE, MOST_TEMPERATURE
from toolkit.inference.metrics import log_loss, predictions, scores
from toolkit.inference.temperature import fit_temperatures


def test_by_hand() -> None:
    # 98 rows state odds of e^4; 74 are right, so with Platt's targets 99/100 and 1/100 the mean right target is 0.75:
    # 74/98 * 0.99 + 24/98 * 0.01 = 0.75, odds of 3
    logits, labels = np.tile([0.0, 4.0], (98, 1)), np.array([1] * 74 + [0] * 24)
    assert fit_temperatures(logits, labels, "classification") == pytest.approx([4 / np.log(3)], rel=1e-4)
    # of one label, that 74 have and 24 have not: (74 * 75/76 + 24 * 1/26) / 98
    share = (74 * 75 / 76 + 24 / 26) / 98
    fitted = fit_temperatures(np.full((98, 1), 4.0), labels[:, None], "multi_label")
    assert fitted == pytest.approx([4 / np.log(share / (1 - share))], rel=1e-4)


@pytest.mark.parametrize("kind", ["classification", "multi_label"])
def test_known_temperatures_are_recovered(kind: str) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 4))
    if kind == "classification":
        labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from the softmax
        known = np.array([2.5])
    else:
        labels = (random.random(logits.shape) < scores(logits, "multi_label")).astype(np.int64)
        known = np.array([0.5, 1.0, 2.0, 4.0])
    fitted = fit_temperatures(logits * known, labels, kind)  # type: ignore[arg-type]
    assert fitted == pytest.approx(known, rel=0.05)
    before, after = (log_loss(logits * known / t, labels, kind) for t in (1.0, fitted))  # type: ignore[arg-type]
    assert after < before


def test_rows_without_an_error_do_not_state_certainty() -> None:
    logits, labels = np.tile([0.0, 4.0], (300, 1)), np.ones(300, dtype=np.int64)
    (temperature,) = fit_temperatures(logits, labels, "classification")
    assert scores(logits[:1] / temperature, "classification")[0, 1] == pytest.approx(301 / 302, abs=1e-5)


def test_a_model_that_is_wrong_throughout_meets_the_bound() -> None:
    logits, labels = np.tile([0.0, 4.0], (300, 1)), np.zeros(300, dtype=np.int64)
    assert fit_temperatures(logits, labels, "classification").tolist() == [MOST_TEMPERATURE]


FLOATS = st.floats(-1e4, 1e4, width=32)


@given(
    arrays(np.float32, (3, 4), elements=FLOATS),
    arrays(np.float64, (4,), elements=st.floats(LEAST_TEMPERATURE, MOST_TEMPERATURE)),
)
def test_no_label_changes(logits: np.ndarray, temperatures: np.ndarray) -> None:
    scale = 1 / temperatures
    assert (predictions(logits, "multi_label") == predictions(logits * scale, "multi_label")).all()
    calm = logits * scale[:1]
    assert (predictions(logits, "classification") == predictions(calm, "classification")).all()
    best = predictions(logits, "classification")
    probabilities = scores(calm, "classification")
    assert (probabilities[np.arange(3), best] == probabilities.max(axis=1)).all()
    assert ((logits > 0) <= (scores(logits * scale, "multi_label") >= 0.5)).all()
