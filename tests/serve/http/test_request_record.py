"""The record of a request is one for the whole of its way, and never another request's."""

from __future__ import annotations

from fastapi import Request
from starlette.types import Scope

from serve.http.request_record import record_of


def test_a_request_has_one_record_and_another_request_another() -> None:
    scope: Scope = {"type": "http"}
    record = record_of(scope)
    record.counted = True
    record.log_fields["tokens"] = 3
    assert record_of(scope) is record
    assert record_of(Request(scope).scope) is record
    fresh = record_of({"type": "http", "state": {}})
    assert (fresh.counted, fresh.log_fields, fresh.model_headers, fresh.disconnected) == (False, {}, [], None)


def test_facts_are_counts_and_stages_in_milliseconds() -> None:
    record = record_of({"type": "http"})
    record.log_fields, record.stage_seconds = {"tokens": 3}, {"queue": 0.0012345}
    assert record.facts() == {"tokens": 3, "queue_ms": 1.234}
