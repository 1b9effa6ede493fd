"""Errors of requests: each type has a status, and a metric that counts it."""

from __future__ import annotations

from typing import get_args

import pytest

from serve.exceptions import STATUS, ErrorType, ServeError
from serve.metrics import FAILURES


def test_every_type_has_a_status_and_is_counted() -> None:
    assert set(STATUS) == set(FAILURES) == set(get_args(ErrorType))
    assert STATUS["Empty"] == 400
    assert STATUS["Overloaded"] == 429


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (ServeError("Timeout", "late"), 504, {}),
        (ServeError("Validation", "too large", status=413), 413, {}),
        (ServeError("Overloaded", "full", retry_after=3), 429, {"Retry-After": "3"}),
    ],
)
def test_an_error_has_its_own_status_or_its_types(error: ServeError, status: int, headers: dict[str, str]) -> None:
    assert (error.status, error.headers) == (status, headers)
    assert str(error) == error.message
