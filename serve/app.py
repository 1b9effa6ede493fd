"""The application: /predict, what runs it, what watches it, and the page at /.

`create_app` is a factory, so `TOOLKIT_BUNDLE=DIR uvicorn serve.app:create_app --factory` works too.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline

from serve.answers import cost_headers, log_fields, rank
from serve.batching import Answer, Engine
from serve.errors import BodyLimit, handle_errors
from serve.limits import Limits
from serve.logs import Envelope
from serve.metrics import Metrics
from serve.playground import PAGE, POLICY
from serve.schemas import (
    PREDICT_EXAMPLES,
    Classifier,
    Info,
    Inputs,
    ModelType,
    PredictRequest,
    PredictResponse,
    ServeError,
    error_responses,
)
from serve.security import ApiKeys, Keys, cors
from toolkit import __version__
from toolkit.bundle import open_bundle, tool_versions
from toolkit.errors import ToolkitError
from toolkit.predictor import OnnxRuntime, Predictor
from toolkit.text import Direction

BUNDLE_VARIABLE = "TOOLKIT_BUNDLE"
PROBE = ("is the model well?", None)
CLIENT_GONE = 499  # nginx's status for a request whose client left; nobody receives it
router = APIRouter()


def load_predictor(path: str | Path) -> Predictor:
    """Verify an exported bundle, load it, and run it once.

    Raises:
        ToolkitError: the bundle is damaged, is not exported, or its model does not fit its labels.
    """
    bundle = open_bundle(path)
    if bundle.weights.suffix != ".onnx":
        raise ToolkitError(
            f"{bundle.path} is a PyTorch bundle ({bundle.weights.name}); the server runs ONNX only",
            expected="a bundle made by toolkit export",
            fix=f"export it first: toolkit export {bundle.path} --int8 --out {bundle.path}-int8",
        )
    predictor = Predictor(bundle, OnnxRuntime(bundle.weights, threads=1, spinning=False))
    _check_model(predictor)
    return predictor


def _check_model(predictor: Predictor) -> None:
    path, labels = predictor.bundle.path, predictor.task.labels
    try:
        logits = predictor.logits(predictor.encoder.encode([PROBE[0]]))
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ToolkitError(f"{path}: the model does not run: {error}", fix="export it again") from error
    if logits.shape[1] != len(labels):
        raise ToolkitError(
            f"{path}: the model gives {logits.shape[1]} scores for {len(labels)} labels", fix="export it again"
        )
    if not np.isfinite(logits).all():
        raise ToolkitError(f"{path}: the model gives scores that are not finite", fix="export it again")


class Service:
    """A loaded bundle and the engine that runs it."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self.engine, self.limits, self.metrics = Engine(predictor, limits, metrics), limits, metrics
        self.bundle, self.task = predictor.bundle, predictor.task

    def info(self) -> Info:
        """What /info answers."""
        limits, labels, bundle = self.limits, self.task.labels, self.bundle
        precision: Any = bundle.precision
        classifier = Classifier(
            id2label={str(i): label for i, label in enumerate(labels)},
            label2id={label: i for i, label in enumerate(labels)},
        )
        return Info(
            model_id=bundle.path.resolve().name, model_sha=bundle.digest, digest=bundle.digest,
            model_dtype=precision, precision=precision, model_type=ModelType(classifier=classifier),
            max_concurrent_requests=limits.max_concurrent_requests, max_batch_tokens=limits.max_batch_tokens,
            max_batch_requests=limits.max_batch_requests, max_client_batch_size=limits.max_client_batch_size,
            max_input_length=bundle.max_length, max_length=bundle.max_length, payload_limit=limits.payload_limit,
            timeout_ms=limits.timeout_ms,
            tokenization_workers=limits.workers, auto_truncate=True, version=__version__, task=self.task.name,
            kind=self.task.kind, labels=list(labels), versions=tool_versions(),
        )  # fmt: skip

    async def healthy(self) -> bool:
        """Whether requests are answered; a model whose latest batch failed is asked again."""
        if self.engine.failing and not self.engine.closing:
            try:
                await self.engine.predict([PROBE])
            except ServeError:
                return False
        return not self.engine.closing


def create_app(
    bundle: str | Path | Predictor | None = None, *, limits: Limits | None = None, keys: Keys | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:  # fmt: skip
    """An application that serves one bundle, loaded when the application starts.

    Args:
        bundle: its directory, or a predictor already loaded by `load_predictor`; None reads TOOLKIT_BUNDLE.
        limits: how much to take on.
        keys: one of which a request must bring; None reads TOOLKIT_API_KEYS.
        cors_origins: origins whose pages may call this server, or "*".

    Raises:
        ToolkitError: no bundle is named, or TOOLKIT_API_KEYS holds no key.
    """
    source = bundle or os.environ.get(BUNDLE_VARIABLE)
    if not source:
        raise ToolkitError("no bundle to serve", fix=f"set {BUNDLE_VARIABLE} to a directory made by toolkit export")
    accepted, needed = limits or Limits(), Keys.load() if keys is None else keys

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        predictor = source if isinstance(source, Predictor) else await asyncio.to_thread(load_predictor, source)
        app.state.service = service = Service(predictor, accepted, app.state.metrics)
        yield
        await service.engine.close()

    app = FastAPIOffline(
        redoc_url=None, title="TinyBERT toolkit", version=__version__, lifespan=lifespan,
        description="Text classification, with the requests and answers of text-embeddings-inference.",
    )  # fmt: skip
    app.state.metrics, app.state.service = Metrics(), None
    app.include_router(router)
    app.add_middleware(BodyLimit, limit=accepted.payload_limit)  # innermost; what is added later is asked earlier
    if needed:
        app.add_middleware(ApiKeys, keys=needed)
    if cors_origins:
        app.add_middleware(CORSMiddleware, **cors(cors_origins))
    app.add_middleware(Envelope)
    handle_errors(app)
    return app


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses=error_responses(400, 401, 413, 415, 422, 424, 429, 500, 503, 504),
    response_description="All labels, best first; for a batch a list of such lists, in the order of the inputs.",
)
async def predict(
    http: Request, request: Annotated[PredictRequest, Body(openapi_examples=PREDICT_EXAMPLES)]
) -> Response:
    """Classify a text, a pair of texts, or a batch of texts and pairs."""
    started = time.perf_counter()
    metrics: Metrics = http.app.state.metrics
    method = "batch" if request.inputs.batch else "single"
    metrics.requests.labels(method).inc()
    http.state.counted = True
    service = _ready(http)
    _check_batch_size(request.inputs, service.limits)
    direction: Direction = "left" if request.truncation_direction.lower() == "left" else "right"
    truncate = request.truncate is not False
    work = service.engine.predict(
        request.inputs.texts, truncate=truncate, direction=direction, timeout_ms=request.timeout_ms
    )
    answer = await _unless_gone(http, asyncio.ensure_future(work))
    if answer is None:
        metrics.failures.labels("dropped").inc()
        return Response(status_code=CLIENT_GONE)
    found = rank(answer.logits, service.task, raw_scores=request.raw_scores, top_k=request.top_k)
    total = time.perf_counter() - started
    http.state.log = log_fields(request.inputs, answer)
    metrics.successes.labels(method).inc()
    metrics.duration.observe(total)
    metrics.tokenization.observe(answer.tokenization_s)
    metrics.queue.observe(answer.queue_s)
    metrics.inference.observe(answer.inference_s)
    return JSONResponse(
        found if request.inputs.batch else found[0], headers=cost_headers(request.inputs, answer, total)
    )


@router.get("/info", response_model=Info, responses=error_responses(401, 503))
async def info(http: Request) -> Info:
    """The served model, its labels, and the limits of this server."""
    return _ready(http).info()


@router.get("/health", responses=error_responses(503), response_class=Response)
@router.get("/health/ready", responses=error_responses(503), response_class=Response)
async def ready(http: Request) -> Response:
    """Whether requests are answered: the model is loaded, works, and the server is not shutting down."""
    if not await _ready(http).healthy():
        raise ServeError("Unhealthy", "the model fails or the server is shutting down")
    return Response()


@router.get("/health/live", response_class=Response)
async def live() -> Response:
    """Whether the process answers at all; restart it when not."""
    return Response()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(http: Request) -> Response:
    """Counts and durations for Prometheus."""
    return Response(http.app.state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def playground() -> HTMLResponse:
    """The page for people."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})


def _ready(http: Request) -> Service:
    service = http.app.state.service
    if not isinstance(service, Service):
        raise ServeError("Unhealthy", "not ready: the model is being loaded")
    return service


def _check_batch_size(inputs: Inputs, limits: Limits) -> None:
    if len(inputs.texts) > limits.max_client_batch_size:
        raise ServeError(
            "Validation", f"batch size {len(inputs.texts)} > maximum allowed batch size {limits.max_client_batch_size}"
        )


async def _unless_gone(http: Request, work: asyncio.Future[Answer]) -> Answer | None:
    """The answer, or None when the client left first; its work is then cancelled."""
    leaving = asyncio.ensure_future(_disconnect(http))
    both: tuple[asyncio.Future[Any], ...] = (work, leaving)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for one in both:
            one.cancel()


async def _disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        continue
