"""Requests of the Open Inference Protocol: which outputs they ask for, in which form, and within which time."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serve.api.schemas import MAX_TIMEOUT_MS
from serve.api.tensors import InferRequest

TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}


def request(**fields: Any) -> InferRequest:
    return InferRequest.model_validate({"inputs": [TENSOR]} | fields)


@pytest.mark.parametrize("outputs", [None, []])
def test_without_a_choice_both_outputs_are_asked_for(outputs: Any) -> None:
    assert [output.name for output in request(outputs=outputs).requested()] == ["label", "score"]


def test_an_output_is_answered_once_and_its_own_word_on_its_form_counts() -> None:
    asked = request(
        outputs=[{"name": "score"}, {"name": "label", "parameters": {"binary_data": False}}, {"name": "score"}],
        parameters={"binary_data_output": True},
    )
    assert [(output.name, asked.is_binary(output)) for output in asked.requested()] == [
        ("score", True),
        ("label", False),
    ]
    assert not any(map(request().is_binary, request().requested()))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None), ({"timeout_ms": 7}, 7), ({"timeout": 5_000_000}, 5000), ({"timeout": 1}, 1),
        ({"timeout": 10**15}, MAX_TIMEOUT_MS), ({"timeout": 9000, "timeout_ms": 7}, 7),
    ],
)  # fmt: skip
def test_times_are_milliseconds_and_tritonclient_s_are_microseconds(parameters: Any, expected: int | None) -> None:
    assert request(parameters=parameters).parameters.milliseconds() == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": {"sequence_id": 1}}, {"parameters": {"priority": 1}}, {"parameters": {"timeout": 0}},
        {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
        {"outputs": [{"name": "score", "parameters": {"classification": 0}}]},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)
