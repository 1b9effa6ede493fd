"""The endpoints for clients, probes and people: /predict, /info, /health, /metrics, and the page at /."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import HTMLResponse, Response

from serve.api.classify import classify, get_models, ranked_labels
from serve.api.playground import PAGE, POLICY
from serve.api.schemas import (
    PREDICT_EXAMPLES,
    UNSURE,
    Classifier,
    ClassifierType,
    ClassifyRequest,
    Info,
    ModelCard,
    PredictRequest,
    PredictResponse,
    RerankerType,
    error_responses,
)
from serve.api.unsure import check_threshold, tell_unsure
from serve.engine.engine import EngineResult
from serve.exceptions import ServeError
from serve.http.json_route import JsonRoute
from serve.models.registry import Model, Models
from toolkit import __version__
from toolkit.data.tokenization import Direction
from toolkit.measurement.environment import tool_versions

FAILURES = (400, 401, 413, 415, 422, 424, 429, 500, 503, 504)
ANSWERS = "All labels, best first; for a batch a list of such lists, in the order of the inputs."
Request_ = Annotated[PredictRequest, Body(openapi_examples=PREDICT_EXAMPLES)]
router = APIRouter(route_class=JsonRoute)


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses=UNSURE | error_responses(*FAILURES),
    response_description=ANSWERS,
)
async def predict(http: Request, request: Request_) -> Response:
    """Classify a text, a pair of texts, or a batch of texts and pairs by the server's first model."""
    return await classify_as_predict(http, None, request)


@router.post(
    "/models/{name}/predict", response_model=PredictResponse, responses=UNSURE | error_responses(404, *FAILURES),
    response_description=ANSWERS,
)  # fmt: skip
async def predict_by(http: Request, name: str, request: Request_) -> Response:
    """The same by the model of that name; /info lists them."""
    return await classify_as_predict(http, name, request)


async def classify_as_predict(http: Request, name: str | None, request: ClassifyRequest) -> Response:
    """Answer a single input with its labels and a batch with a list of labels for each."""

    def render(model: Model, result: EngineResult) -> Any:
        rows = ranked_labels(model.scores(result, raw=request.raw_scores), model.task, request.top_k)
        if not (request.abstain or request.details):
            return rows if request.inputs.batch else rows[0]
        answers = tell_unsure(rows, model.unsure(result), abstain=request.abstain, details=request.details)
        return answers if request.inputs.batch else answers[0]

    if request.abstain:
        check_threshold(get_models(http).get(name))
    direction: Direction = "left" if request.truncation_direction.lower() == "left" else "right"
    truncate = request.truncate is not False
    return await classify(
        http, name, request.inputs, render, truncate=truncate, direction=direction, timeout_ms=request.timeout_ms
    )


@router.get("/info", response_model=Info, responses=error_responses(401, 503))
async def info(http: Request) -> Info:
    """The served models, their labels, and the limits of this server."""
    return _info(get_models(http))


def _info(models: Models) -> Info:
    """Describe the server; text-embeddings-inference's fields describe its first model."""
    limits, first = models.limits, _card(models.get())
    classifier = Classifier(
        id2label={str(i): label for i, label in enumerate(first.labels)},
        label2id={label: i for i, label in enumerate(first.labels)},
    )
    model_type = RerankerType(reranker=classifier) if len(first.labels) == 1 else ClassifierType(classifier=classifier)
    return Info(
        model_id=first.name, served_model_name=first.name, model_sha=first.digest, digest=first.digest,
        model_dtype=first.precision, precision=first.precision, model_type=model_type,
        max_concurrent_requests=limits.max_concurrent_requests, max_batch_tokens=limits.max_batch_tokens,
        max_batch_requests=limits.max_batch_requests, max_client_batch_size=limits.max_client_batch_size,
        max_input_length=first.max_length, max_length=first.max_length, payload_limit=limits.payload_limit,
        timeout_ms=limits.timeout_ms, tokenization_workers=1, auto_truncate=True, version=__version__,
        task=first.task, kind=first.kind, labels=first.labels, versions=tool_versions(),
        models=[_card(model) for model in models.all()],
    )  # fmt: skip


def _card(model: Model) -> ModelCard:
    bundle = model.predictor.bundle
    precision: Any = bundle.precision
    return ModelCard(
        name=model.name, digest=bundle.digest, task=model.task.name, kind=model.task.kind,
        labels=list(model.task.labels), pair=model.task.pair_column is not None, precision=precision,
        max_length=bundle.max_length, threshold=model.threshold,
        fallback=None if model.cascade is None else model.cascade.fallback.name,
    )  # fmt: skip


@router.get("/health", responses=error_responses(503), response_class=Response)
@router.get("/health/ready", responses=error_responses(503), response_class=Response)
async def ready(http: Request) -> Response:
    """Answer 200 while requests are answered: the models are loaded and work, and the server is not shutting down."""
    if not await get_models(http).healthy():
        raise ServeError("Unhealthy", "the model fails or the server is shutting down")
    return Response()


@router.get("/health/live", response_class=Response)
async def live() -> Response:
    """Answer 200 while the process runs; restart it when it does not answer."""
    return Response()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(http: Request) -> Response:
    """Counts and durations for Prometheus."""
    if http.app.state.models is not None:
        http.app.state.models.catch_up()
    return Response(http.app.state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def playground() -> HTMLResponse:
    """The page for people."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})
