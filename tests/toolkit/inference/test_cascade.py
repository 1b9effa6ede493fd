"""Which answers go on and how both models' become one, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.inference.cascade import (
    SecondAnswer,
    label_places,
    merged,
    require_labels,
    require_thresholds,
    thresholds_of,
)
from toolkit.inference.predictor import Classifier
from toolkit.tasks import Task

LABELS = ("bad", "good", "mixed")


def classifier(*own: float) -> Classifier:
    """A classifier of LABELS without a model, perhaps with a threshold of its own."""
    promises = [{"kind": "accurate", "share": 0.9, "confidence": 0.95, "threshold": t, "coverage": 0.5} for t in own]
    calibration = {"temperature": [1.0], "thresholds": promises}
    return Classifier(Task("auto", LABELS), None, None, digest="d", calibration=calibration)  # type: ignore[arg-type]


def test_a_given_threshold_counts_before_the_bundle_s_own() -> None:
    assert thresholds_of(classifier(), 0.0) is None
    assert thresholds_of(classifier(0.7), 0.0).tolist() == [0.7] * 3  # type: ignore[union-attr]
    assert thresholds_of(classifier(0.7), 0.9).tolist() == [0.9] * 3  # type: ignore[union-attr]
    number = Classifier(Task("auto", ("x",), kind="regression"), None, None, digest="d")  # type: ignore[arg-type]
    assert thresholds_of(number, 0.9) is None
    with pytest.raises(ToolkitError, match="nothing tells what films is unsure of") as caught:
        require_thresholds(None, "big", "films", "runs/int8")
    assert "toolkit calibrate runs/int8" in caught.value.fix


def test_a_second_answer_comes_in_the_first_one_s_order_and_is_unsure_by_its_own_threshold() -> None:
    logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    order = label_places(("mixed", "bad", "good"), LABELS, "big")
    assert order == [2, 0, 1]
    second = SecondAnswer.of(classifier(0.5), logits, order)
    np.testing.assert_allclose(second.scores, [[0.1, 0.7, 0.2], [0.4, 0.3, 0.3]])
    assert second.unsure.tolist() == [False, True]
    assert not SecondAnswer.of(classifier(), logits, order).unsure.any()
    first = np.zeros((3, 3))
    both = merged(first, np.array([0, 2]), second.scores)
    assert both[:, 1].tolist() == pytest.approx([0.7, 0.0, 0.3])
    assert not first.any()
    assert merged(first, np.array([0]), None) is first


def test_other_labels_and_other_kinds_are_refused() -> None:
    with pytest.raises(ToolkitError, match="big: its labels are a, b; those of the first model are a, c"):
        label_places(("c", "a"), ("b", "a"), "big")
    with pytest.raises(ToolkitError, match="big is a multi-label model"):
        require_labels("multi_label", "big")
