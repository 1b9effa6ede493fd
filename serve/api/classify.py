"""From a parsed request to its response: what the model gave, as the client gets it, and what it cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json

from serve.api.schemas import Inputs
from serve.engine.engine import EngineResult
from serve.exceptions import ServeError
from serve.http.connection import DISCONNECTED
from serve.metrics import Metrics
from serve.models.registry import Model, Models
from toolkit.data.tokenization import Direction
from toolkit.metrics import scores
from toolkit.tasks import Task

CLIENT_GONE = 499  # nginx's status for a request whose client left; nobody receives it


def get_models(http: Request) -> Models:
    """The server's models.

    Raises:
        ServeError: Unhealthy, they are still being loaded.
    """
    models = http.app.state.models
    if not isinstance(models, Models):
        raise ServeError("Unhealthy", "not ready: the model is being loaded")
    return models


async def classify(
    http: Request, name: str | None, inputs: Inputs, render: Callable[[Model, EngineResult], Any], *,
    truncate: bool = True, direction: Direction = "right", timeout_ms: int | None = None,
) -> Response:  # fmt: skip
    """Classify, counted, timed and logged; the body is what `render` makes of the answer.

    Raises:
        ServeError: no such model, more inputs than one request may have, or what the engine raises.
    """
    started = time.perf_counter()
    metrics: Metrics = http.app.state.metrics
    method = "batch" if inputs.batch else "single"
    metrics.requests[method].inc()
    http.state.counted = True
    models = get_models(http)
    model = models.get(name)
    http.state.headers = model.headers
    _check_batch_size(inputs, models.limits.max_client_batch_size)
    work = model.engine.predict(inputs.texts, truncate=truncate, direction=direction, timeout_ms=timeout_ms)
    answer = await cancel_on_disconnect(http, work)
    if answer is None:
        metrics.failures["dropped"].inc()
        return Response(status_code=CLIENT_GONE)
    body = render(model, answer)
    recent = models.recent(model.name)
    if recent is not None:
        recent.add(inputs.texts)
    total = time.perf_counter() - started
    http.state.log, http.state.stages = _log_fields(inputs, model, answer), answer.stages()
    metrics.successes[method].inc()
    for histogram, seconds in zip(model.engine.durations, (total, *answer.stages().values()), strict=True):
        histogram.observe(seconds)
    response = Response(to_json(body), media_type="application/json")
    response.raw_headers += usage_headers(inputs, answer, total)
    return response


def ranked_labels(
    logits: np.ndarray, task: Task, *, raw_scores: bool = False, top_k: int | None = None
) -> list[list[dict[str, Any]]]:
    """Logits [n, C] to n lists of {"score", "label"}, best first, equal scores in the order of the labels."""
    values: list[list[float]] = (logits if raw_scores else scores(logits, task.kind)).tolist()
    return [
        [{"score": row[c], "label": task.labels[c]} for c in sorted(range(len(row)), key=lambda c: -row[c])[:top_k]]
        for row in values
    ]


def usage_headers(inputs: Inputs, answer: EngineResult, total_s: float) -> list[tuple[bytes, bytes]]:
    """The headers that text-embeddings-inference sends: characters, tokens, and whole milliseconds.

    Beyond it: Server-Timing with fractions of milliseconds, which browsers show, and x-truncated when any was cut.
    """
    characters = sum(len(text) + len(pair or "") for text, pair in inputs.texts)
    timing = [(name, 1000 * seconds) for name, seconds in (*answer.stages().items(), ("total", total_s))]
    return [
        (b"x-compute-type", b"cpu"), (b"x-compute-characters", b"%d" % characters),
        (b"x-compute-tokens", b"%d" % answer.tokens), (b"x-compute-time", b"%d" % (1000 * total_s)),
        *((f"x-{name}-time".encode(), b"%d" % ms) for name, ms in timing),
        (b"server-timing", ", ".join(f"{name};dur={ms:.3f}" for name, ms in timing).encode()),
        *([(b"x-truncated", b"true")] if answer.truncated else []),
    ]  # fmt: skip


def _log_fields(inputs: Inputs, model: Model, answer: EngineResult) -> dict[str, Any]:
    """What the log tells of an answered request: counts and times, nothing that was sent."""
    return {
        "model": model.name, "inputs": len(inputs.texts), "tokens": answer.tokens, "truncated": answer.truncated,
        **{f"{name}_ms": round(value * 1000, 3) for name, value in answer.stages().items()},
    }  # fmt: skip


def _check_batch_size(inputs: Inputs, most: int) -> None:
    if len(inputs.texts) > most:
        raise ServeError("Validation", f"batch size {len(inputs.texts)} > maximum allowed batch size {most}")


async def cancel_on_disconnect(http: Request, work: Coroutine[Any, Any, EngineResult]) -> EngineResult | None:
    """The answer, or None when the client left first; its work is then cancelled."""
    task, left = asyncio.current_task(), False
    assert task is not None

    def leave(_: asyncio.Future[None]) -> None:
        nonlocal left
        left = True
        task.cancel()

    leaving = getattr(http.state, DISCONNECTED, None) or asyncio.ensure_future(_disconnect(http))
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
        return None
    finally:
        leaving.remove_done_callback(leave)
        leaving.cancel()


async def _disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        continue
