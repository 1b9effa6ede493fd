"""The path of a classification: from a parsed request through the engine to the response with its usage headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypedDict

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json

from serve.api.schemas import Inputs
from serve.engine.engine import EngineResult
from serve.exceptions import ServeError
from serve.http.request_record import record_of
from serve.metrics import Metrics
from serve.models.cascade import CascadeResult
from serve.models.registry import Model, Models
from toolkit.data.tokenization import Direction
from toolkit.tasks import Task

STAGE_HEADERS = (b"x-tokenization-time", b"x-queue-time", b"x-inference-time", b"x-total-time")
SERVER_TIMING = b"tokenization;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f, total;dur=%.3f"
CLIENT_GONE = 499  # nginx's status for a request whose client left; nobody receives it


class LabelScore(TypedDict):
    """One entry of an answer."""

    score: float
    label: str


def get_models(http: Request) -> Models:
    """Return the server's models.

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
    """Classify, count, time and log a request; `render` turns the engine's result into JSON or a response.

    Raises:
        ServeError: no such model, more inputs than a request may have, or an error of the engine.
    """
    started = time.perf_counter()
    metrics: Metrics = http.app.state.metrics
    method = "batch" if inputs.batch else "single"
    metrics.requests[method].inc()
    record = record_of(http.scope)
    record.counted = True
    models = get_models(http)
    model = models.get(name)
    record.model_headers = model.headers
    _check_batch_size(inputs, models.limits.max_client_batch_size)
    metrics.inputs.inc(len(inputs.texts))
    work = model.predict(inputs.texts, truncate=truncate, direction=direction, timeout_ms=timeout_ms)
    result = await cancel_on_disconnect(http, work)
    if result is None:
        metrics.failures["dropped"].inc()
        return Response(status_code=CLIENT_GONE)
    unsure = model.unsure(result)
    if unsure is not None:
        count = int(unsure.sum())
        metrics.unsure.labels(model.name).inc(count)
        record.model_headers = [*model.headers_of(result), (b"x-unsure", b"%d" % count)]
    body = render(model, result)
    recent = models.recent(model.name)
    if recent is not None:
        recent.add(inputs.texts)
    total, stages = time.perf_counter() - started, result.stages()
    record.log_fields, record.stage_seconds = _log_fields(inputs, model, result), stages
    metrics.successes[method].inc()
    metrics.answered_inputs.inc(len(inputs.texts))
    for histogram, seconds in zip(model.engine.durations, (total, *stages.values()), strict=True):
        histogram.observe(seconds)
    response = body if isinstance(body, Response) else Response(to_json(body), media_type="application/json")
    response.raw_headers += usage_headers(inputs, result, total)
    model.watch.add(result)
    if model.audit is not None:
        response.background = model.audit.draw(inputs.texts, result, direction)
    return response


def ranked_labels(scores: np.ndarray, task: Task, top_k: int | None = None) -> list[list[LabelScore]]:
    """Turn scores [n, C] into n lists of scores and labels, best first, equal scores in the order of the labels."""
    values: list[list[float]] = scores.tolist()
    return [
        [{"score": row[c], "label": task.labels[c]} for c in sorted(range(len(row)), key=lambda c: -row[c])[:top_k]]
        for row in values
    ]


def usage_headers(inputs: Inputs, result: EngineResult, total_s: float) -> list[tuple[bytes, bytes]]:
    """Make the headers that text-embeddings-inference sends: characters, tokens, and whole milliseconds.

    Beyond it: Server-Timing with fractions of milliseconds, which browsers show, and x-truncated when an input was cut.
    """
    characters = sum(len(text) + len(pair or "") for text, pair in inputs.texts)
    milliseconds = [1000 * seconds for seconds in (*result.stages().values(), total_s)]
    return [
        (b"x-compute-type", b"cpu"), (b"x-compute-characters", b"%d" % characters),
        (b"x-compute-tokens", b"%d" % result.tokens), (b"x-compute-time", b"%d" % (1000 * total_s)),
        *zip(STAGE_HEADERS, map(b"%d".__mod__, milliseconds), strict=True),
        (b"server-timing", SERVER_TIMING % (*milliseconds,)),
        *([(b"x-truncated", b"true")] if result.truncated else []),
    ]  # fmt: skip


def _log_fields(inputs: Inputs, model: Model, result: EngineResult) -> dict[str, str | float]:
    """Collect counts of an answered request for the log, and nothing that was sent."""
    fields: dict[str, str | float] = {
        "model": model.name, "inputs": len(inputs.texts), "tokens": result.tokens, "truncated": result.truncated,
    }  # fmt: skip
    if isinstance(result, CascadeResult):
        fields["fallback"] = result.outcome
    return fields


def _check_batch_size(inputs: Inputs, most: int) -> None:
    if len(inputs.texts) > most:
        raise ServeError("Validation", f"batch size {len(inputs.texts)} > maximum allowed batch size {most}")


async def cancel_on_disconnect(http: Request, work: Coroutine[Any, Any, EngineResult]) -> EngineResult | None:
    """Await the work; when the client leaves first, cancel it and return None."""
    task, client_left = asyncio.current_task(), False
    assert task is not None

    def cancel(_: asyncio.Future[None]) -> None:
        nonlocal client_left
        client_left = True
        task.cancel()

    disconnected = record_of(http.scope).disconnected or asyncio.ensure_future(_disconnect(http))
    disconnected.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not client_left:
            raise
        task.uncancel()
        return None
    finally:
        disconnected.remove_done_callback(cancel)
        disconnected.cancel()


async def _disconnect(http: Request) -> None:
    """Wait until the server says that the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        continue
