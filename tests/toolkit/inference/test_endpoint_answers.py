"""Bodies and answers of endpoints by hand; over HTTP they are tested with `toolkit score` and the service."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.inference.endpoint_answers import (
    MALFORMED,
    classified_probabilities,
    classify_body,
    key_header,
    logs,
    predict_body,
    predicted_labels,
    predicted_scores,
)
from toolkit.inference.metrics import softmax

INPUTS = [("a", None), ("a", "b")]


def test_bodies() -> None:
    assert predict_body(INPUTS, raw=True) == {"inputs": [["a"], ["a", "b"]], "raw_scores": True, "truncate": True}
    assert classify_body(INPUTS, "m") == {"model": "m", "input": ["a", "a\nb"]}
    assert classify_body(INPUTS[:1], "") == {"input": ["a"]}


def test_a_key_is_sent_as_it_is_or_refused_and_never_shown() -> None:
    """A client would put a key that no header can carry into its log."""
    assert (key_header(None), key_header("")) == ({}, {})
    assert key_header("k") == key_header("k\r\n") == {"Authorization": "Bearer k"}, "from a file, which ends its line"
    for key in ("sec\nret", "secr\u00e9t", "sec\0ret"):
        with pytest.raises(ToolkitError, match="TOOLKIT_API_KEY holds a character") as refused:
            key_header(key)
        assert "sec" not in str(refused.value)


def test_scores_stand_in_the_order_of_the_labels() -> None:
    answer = [
        [{"label": "y", "score": 2}, {"label": "x", "score": 1.5}],
        [{"label": "x", "score": 4}, {"label": "y", "score": 3}],
    ]
    np.testing.assert_array_equal(predicted_scores(answer, ["x", "y"]), [[1.5, 2], [4, 3]])
    assert predicted_labels(answer) == ["y", "x"]


def test_probabilities_stand_in_the_order_of_the_inputs() -> None:
    answer = {"data": [{"index": 1, "probs": [0.0, 1.0], "label": "y"}, {"index": 0, "probs": [0.75, 0.25]}]}
    probabilities, best = classified_probabilities(answer)
    np.testing.assert_array_equal(probabilities, [[0.75, 0.25], [0.0, 1.0]])
    assert best == [None, "y"]
    np.testing.assert_allclose(softmax(logs(probabilities)), probabilities, atol=1e-6)
    assert logs(probabilities)[1, 0] == pytest.approx(math.log(1e-7))


@pytest.mark.parametrize(
    "answer",
    [
        None, 3, "text", [3], [[3]], [[{"label": "x"}]], [[{"label": "x", "score": None}]], {"data": 3},
        [[{"label": "x", "score": 10**400}]], {"data": [{}]}, {"data": [{"index": 0, "probs": 3}]},
        {"data": [{"index": 0, "probs": [1]}, {"index": 1, "probs": [1, 2]}]},
    ],
)  # fmt: skip
def test_answers_of_another_form_raise_what_is_said(answer: Any) -> None:
    with pytest.raises(MALFORMED):
        predicted_scores(answer, ["x"])
    with pytest.raises(MALFORMED):
        classified_probabilities(answer)
