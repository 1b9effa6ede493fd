"""The Open Inference Protocol, version 2, over the same engine, with the extensions of Triton that fit a classifier.

Binary tensors, classification, model configuration, the repository's index and statistics are spoken; see
serve/api/tensors.py for the tensors. https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic.json_schema import JsonSchemaValue

from serve.api.binary_tensors import TensorRoute, binary_response, encode_tensor
from serve.api.classify import LabelScore, classify, get_models, ranked_labels
from serve.api.schemas import error_responses
from serve.api.tensors import INPUTS, OUTPUTS, InferRequest, InferResponse, RequestedOutput, V2Error
from serve.engine.engine import EngineResult
from serve.exceptions import ServeError
from serve.metrics import Metrics
from serve.models.registry import Model
from toolkit import __version__
from toolkit.tasks import Task

FAILURES = (400, 401, 404, 413, 415, 422, 424, 429, 500, 503, 504)
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "statistics"]
VERSION = "1"  # a client's name for the version that is served; the start of the bundle's digest is another
BINARY: dict[int | str, JsonSchemaValue] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
router = APIRouter(prefix="/v2", route_class=TensorRoute)


def _errors(*statuses: int) -> dict[int | str, JsonSchemaValue]:
    """Make the OpenAPI entries of errors in the protocol's shape."""
    entries = error_responses(*statuses)
    for entry in entries.values():
        example = entry["content"]["application/json"]["example"]
        entry |= {"model": V2Error, "content": {"application/json": {"example": {"error": example["error"]}}}}
    return entries


async def check_version(http: Request, name: str, version: str) -> None:
    """Refuse a version that a model does not have.

    Raises:
        ServeError: 404, no model has that name, or it has another version.
    """
    model = get_models(http).get(name)
    if version not in (VERSION, model.version):
        problem = f"no version {version[:64]!r} of {name}: it has {VERSION}, which is {model.version}"
        raise ServeError("Validation", problem, status=404)


ABOUT_MODEL, OF_VERSION = _errors(401, 404, 422, 503), [Depends(check_version)]


@router.get("", responses=_errors(401))
async def server() -> dict[str, object]:
    """The server's name, version and extensions."""
    return {"name": "tinybert-toolkit", "version": __version__, "extensions": EXTENSIONS}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Answer 200 while the process runs."""
    return {"live": True}


@router.get("/health/ready", responses=_errors(503))
async def ready(http: Request) -> dict[str, bool]:
    """Answer 200 while requests are answered."""
    await _check_ready(http)
    return {"ready": True}


@router.post("/repository/index", responses=_errors(401, 503))
async def index(http: Request) -> list[dict[str, str]]:
    """The served models."""
    return [
        {"name": model.name, "version": VERSION, "state": "READY", "reason": ""} for model in get_models(http).all()
    ]


@router.get("/models/stats", responses=_errors(401, 503))
async def all_statistics(http: Request) -> dict[str, object]:
    """Counts and times of every model."""
    return {"model_stats": [_statistics(http, model) for model in get_models(http).all()]}


@router.get("/models/{name}", responses=ABOUT_MODEL)
@router.get("/models/{name}/versions/{version}", responses=ABOUT_MODEL, dependencies=OF_VERSION)
async def metadata(http: Request, name: str) -> dict[str, object]:
    """A model's inputs and outputs; -1 is any number of them."""
    model = get_models(http).get(name)
    width = len(model.task.labels)
    inputs = [{"name": tensor, "datatype": "BYTES", "shape": [-1]} for tensor in INPUTS]
    outputs = [{"name": tensor, "datatype": datatype, "shape": [-1, width]} for tensor, datatype in OUTPUTS.items()]
    return {
        "name": name, "versions": [VERSION], "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs,
    }  # fmt: skip


@router.get("/models/{name}/config", responses=ABOUT_MODEL)
@router.get("/models/{name}/versions/{version}/config", responses=ABOUT_MODEL, dependencies=OF_VERSION)
async def configuration(http: Request, name: str) -> dict[str, object]:
    """A model's inputs and outputs as Triton's configuration has them."""
    width = len(get_models(http).get(name).task.labels)
    texts = {"data_type": "TYPE_STRING", "dims": [-1]}
    types = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
    return {
        "name": name, "platform": "onnxruntime_onnx", "backend": "onnxruntime",
        "max_batch_size": 0,  # the first dimension stands in every shape
        "input": [{"name": tensor, "optional": tensor != "text"} | texts for tensor in INPUTS],
        "output": [
            {"name": tensor, "data_type": types[datatype], "dims": [-1, width]} for tensor, datatype in OUTPUTS.items()
        ],
    }  # fmt: skip


@router.get("/models/{name}/ready", responses=ABOUT_MODEL)
@router.get("/models/{name}/versions/{version}/ready", responses=ABOUT_MODEL, dependencies=OF_VERSION)
async def model_ready(http: Request, name: str) -> dict[str, object]:
    """Answer 200 while a model answers requests."""
    get_models(http).get(name)
    await _check_ready(http)
    return {"name": name, "ready": True}


@router.get("/models/{name}/stats", responses=ABOUT_MODEL)
@router.get("/models/{name}/versions/{version}/stats", responses=ABOUT_MODEL, dependencies=OF_VERSION)
async def statistics(http: Request, name: str) -> dict[str, object]:
    """Counts and times of a model's answered requests; failures are counted for the server as a whole, in /metrics."""
    return {"model_stats": [_statistics(http, get_models(http).get(name))]}


@router.post("/models/{name}/infer", response_model=InferResponse, responses=BINARY | _errors(*FAILURES))
async def infer(http: Request, name: str, request: InferRequest) -> Response:
    """Classify texts or pairs of texts."""
    return await _infer(http, name, request)


@router.post(
    "/models/{name}/versions/{version}/infer", response_model=InferResponse, responses=BINARY | _errors(*FAILURES)
)
async def infer_by_version(http: Request, name: str, version: str, request: InferRequest) -> Response:
    """The same by the version that is served, or not at all."""
    await check_version(http, name, version)
    return await _infer(http, name, request)


async def _infer(http: Request, name: str, request: InferRequest) -> Response:
    options = request.parameters

    def render(model: Model, result: EngineResult) -> Any:
        """Make the protocol's answer: the requested outputs, as JSON or with binary tensors behind it."""
        rows = ranked_labels(model.scores(result, raw=options.raw_scores), model.task, options.top_k)
        answer: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
        if request.id is not None:
            answer["id"] = request.id
        answer["outputs"], tensors = [], []
        for output in request.requested():
            head, data = _output(output, rows, model.task)
            answer["outputs"].append(head)
            if request.is_binary(output):
                tensors.append(encode_tensor(data))
                head["parameters"] = {"binary_data_size": len(tensors[-1])}
            else:
                head["data"] = data
        return binary_response(answer, tensors) if tensors else answer

    return await classify(
        http, name, request.texts(), render, truncate=options.truncate, timeout_ms=options.milliseconds()
    )


def _output(
    output: RequestedOutput, rows: list[list[LabelScore]], task: Task
) -> tuple[dict[str, Any], list[str] | list[float]]:
    """Make the head of an output tensor, and its data in row-major order."""
    count, datatype = output.parameters.classification, OUTPUTS[output.name]
    cells = [cell for row in rows for cell in row[:count]]
    shape = [len(rows), len(cells) // len(rows)]
    data: list[str] | list[float]
    if count is not None:
        numbers = {label: number for number, label in enumerate(task.labels)}
        datatype = "BYTES"
        data = [f"{cell['score']:f}:{numbers[cell['label']]}:{cell['label']}" for cell in cells]
    elif output.name == "label":
        data = [cell["label"] for cell in cells]
    else:
        data = [cell["score"] for cell in cells]
    return {"name": output.name, "shape": shape, "datatype": datatype}, data


def _statistics(http: Request, model: Model) -> dict[str, object]:
    metrics: Metrics = http.app.state.metrics
    values = metrics.of_model(model.name)
    requests = int(values["te_request_duration_count"])

    def times(stage: str) -> dict[str, int]:
        return {"count": requests, "ns": int(1e9 * values[f"te_request_{stage}duration_sum"])}

    return {
        "name": model.name, "version": VERSION, "inference_count": int(values["te_batch_next_size_sum"]),
        "execution_count": int(values["te_batch_next_size_count"]),
        "inference_stats": {
            "success": times(""), "queue": times("queue_"), "compute_input": times("tokenization_"),
            "compute_infer": times("inference_"),
        },
    }  # fmt: skip


async def _check_ready(http: Request) -> None:
    if not await get_models(http).healthy():
        raise ServeError("Unhealthy", "the model fails or the server is shutting down")
