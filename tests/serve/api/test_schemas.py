"""`inputs` as text-embeddings-inference reads it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.api.schemas import PredictRequest

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "text_pair", "x"]), inner),
    max_leaves=8,
)


def reference(value: Any) -> tuple[list[list[str]], bool] | None:
    """Parse `inputs` as text-embeddings-inference's own deserializer does: sequences and batch, or None."""
    if isinstance(value, str):
        return [[value]], False
    if not isinstance(value, list) or not value:
        return None
    if isinstance(value[0], str):
        return ([value], False) if len(value) <= 2 and all(isinstance(part, str) for part in value) else None
    for sequence in value:
        if (
            not isinstance(sequence, list)
            or len(sequence) not in (1, 2)
            or not all(isinstance(part, str) for part in sequence)
        ):
            return None
    return value, True


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES)
def test_inputs_mean_what_they_mean_to_text_embeddings_inference(value: Any) -> None:
    expected = reference(value)
    try:
        inputs = PredictRequest.model_validate({"inputs": value}).inputs
    except ValidationError as refused:
        kinds = {error["type"] for error in refused.errors()}
        empty = expected is not None and not all(any(sequence) for sequence in expected[0])
        assert kinds == {"empty"} if empty else (expected is None and kinds <= {"empty", "inputs"})
        return
    if expected is not None:
        assert expected == ([[part for part in text if part is not None] for text in inputs.texts], inputs.batch)
    else:
        assert "text" in json.dumps(value)  # ours alone: objects
