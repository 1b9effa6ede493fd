"""The record of a request: what its endpoint leaves for the access log, the traces and the response's headers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.types import Scope

KEY = "record"  # in the ASGI scope's state


@dataclass
class RequestRecord:
    """Facts about one request while it is answered.

    Attributes:
        model_headers: headers that name the model, on whatever response follows.
        log_fields: counts and an error's type for the log and the traces; nothing that a user sent.
        stage_seconds: seconds by stage, in the order in which the stages ran.
        counted: the request is in te_request_count already.
        disconnected: done when the client leaves before its answer; None where the server does not tell.
    """

    model_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    log_fields: dict[str, str | float] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    counted: bool = False
    disconnected: asyncio.Future[None] | None = None

    def facts(self) -> dict[str, str | float]:
        """Return the fields of the log and, in milliseconds, the stages."""
        stages = {f"{name}_ms": round(1000 * seconds, 3) for name, seconds in self.stage_seconds.items()}
        return {**self.log_fields, **stages}


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of a request, which the first caller makes."""
    state = scope.setdefault("state", {})
    record: RequestRecord | None = state.get(KEY)
    if record is None:
        record = state[KEY] = RequestRecord()
    return record
