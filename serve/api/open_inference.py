"""The Open Inference Protocol, version 2, over the same engine: texts go in as BYTES, labels and scores come out.

Inputs are `text` and, for pairs, `text_pair`, shape [n] or [n, 1]; outputs are `label` (BYTES) and `score` (FP32),
shape [n, C]: every input's labels, best first, or [n, k] with the parameter `top_k`. Tensors are JSON; there is no
binary extension. https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, PrivateAttr, StrictBool, StrictInt, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError

from serve.api.classify import classify, get_models, ranked_labels
from serve.api.schemas import Inputs, Milliseconds, TopK, error_responses, parse_inputs
from serve.engine.engine import EngineResult
from serve.engine.limits import MAX_INPUTS
from serve.exceptions import ServeError
from serve.http.json_route import JsonRoute
from serve.models.registry import Model
from toolkit import __version__

FAILURES = (400, 401, 404, 413, 415, 422, 424, 429, 500, 503, 504)
INPUTS = ("text", "text_pair")
OUTPUTS: dict[str, str] = {"label": "BYTES", "score": "FP32"}  # to their datatypes
router = APIRouter(prefix="/v2", route_class=JsonRoute)


class V2Error(BaseModel):
    """What every error under /v2 looks like."""

    error: str


# a list of many wrong members is refused by its first
Strings = Annotated[list[str], Field(max_length=MAX_INPUTS, fail_fast=True)]


class Tensor(BaseModel):
    """Strings in row-major order, flat or nested as the shape is."""

    name: Literal["text", "text_pair"]
    shape: Annotated[list[StrictInt], Field(min_length=1, max_length=2)] = Field(examples=[[2]])
    datatype: Literal["BYTES"]
    data: Strings | Annotated[list[Strings], Field(max_length=MAX_INPUTS, fail_fast=True)] = Field(
        examples=[["a warm film", "dull"]]
    )
    parameters: dict[str, Any] | None = None

    def strings(self) -> list[str]:
        """Return the data, flat."""
        flat = [text for row in self.data for text in ([row] if isinstance(row, str) else row)]
        if self.shape not in ([len(flat)], [len(flat), 1]):
            problem = f"`{self.name}` has shape {self.shape} and {len(flat)} strings"
            raise PydanticCustomError("inputs", f"{problem}: expected shape [n] or [n, 1] and n strings")
        return flat


class RequestedOutput(BaseModel):
    """An output to answer with."""

    name: Literal["label", "score"]
    parameters: dict[str, Any] | None = None


class Parameters(BaseModel):
    """What /predict takes beside its inputs."""

    truncate: StrictBool = True
    raw_scores: StrictBool = False
    top_k: TopK | None = None
    timeout_ms: Milliseconds | None = None


class InferRequest(BaseModel):
    """Texts to classify."""

    id: str | None = Field(None, max_length=256)
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=2)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=16, fail_fast=True)] | None = None
    parameters: Parameters = Parameters()
    _texts: Inputs = PrivateAttr()

    @model_validator(mode="after")
    def _read(self) -> Self:
        tensors: dict[str, list[str]] = {tensor.name: tensor.strings() for tensor in self.inputs}
        if "text" not in tensors or len(tensors) < len(self.inputs):
            raise PydanticCustomError("inputs", "expected one input `text` and, for pairs, one `text_pair`")
        if len({len(strings) for strings in tensors.values()}) > 1:
            raise PydanticCustomError("inputs", "`text` and `text_pair` are not equally many")
        columns = [tensors[name] for name in INPUTS if name in tensors]
        self._texts = parse_inputs([list(row) for row in zip(*columns, strict=True)])
        return self

    def texts(self) -> Inputs:
        """Return the inputs to classify."""
        return self._texts


class OutputTensor(BaseModel):
    """One output, its data flat in row-major order."""

    name: Literal["label", "score"]
    shape: list[int]
    datatype: Literal["BYTES", "FP32"]
    data: list[str] | list[float]


class InferResponse(BaseModel):
    """Labels and scores."""

    model_name: str
    model_version: str = Field(description="Start of the bundle's digest.")
    id: str | None = None
    outputs: list[OutputTensor]


def _errors(*statuses: int) -> dict[int | str, JsonSchemaValue]:
    """Make the OpenAPI entries of errors in the protocol's shape."""
    entries = error_responses(*statuses)
    for entry in entries.values():
        example = entry["content"]["application/json"]["example"]
        entry |= {"model": V2Error, "content": {"application/json": {"example": {"error": example["error"]}}}}
    return entries


@router.get("", responses=_errors(401))
async def server() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "tinybert-toolkit", "version": __version__, "extensions": []}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Whether the process answers at all."""
    return {"live": True}


@router.get("/health/ready", responses=_errors(503))
async def ready(http: Request) -> dict[str, bool]:
    """Whether requests are answered."""
    await _check_ready(http)
    return {"ready": True}


@router.get("/models/{name}", responses=_errors(401, 404, 422, 503))
async def metadata(http: Request, name: str) -> dict[str, Any]:
    """A model's inputs and outputs; -1 is any number of them."""
    model = get_models(http).get(name)
    width = len(model.task.labels)
    inputs = [{"name": tensor, "datatype": "BYTES", "shape": [-1]} for tensor in INPUTS]
    outputs = [{"name": tensor, "datatype": datatype, "shape": [-1, width]} for tensor, datatype in OUTPUTS.items()]
    return {"name": name, "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}


@router.get("/models/{name}/ready", responses=_errors(401, 404, 422, 503))
async def model_ready(http: Request, name: str) -> dict[str, Any]:
    """Whether a model answers requests."""
    get_models(http).get(name)
    await _check_ready(http)
    return {"name": name, "ready": True}


@router.post("/models/{name}/infer", response_model=InferResponse, responses=_errors(*FAILURES))
async def infer(http: Request, name: str, request: InferRequest) -> Response:
    """Classify texts or pairs of texts."""
    options = request.parameters
    names = OUTPUTS if request.outputs is None else dict.fromkeys(output.name for output in request.outputs)

    def render(model: Model, result: EngineResult) -> Any:
        rows = ranked_labels(result.logits, model.task, raw_scores=options.raw_scores, top_k=options.top_k)
        shape, cells = [len(rows), len(rows[0])], [cell for row in rows for cell in row]
        data = {"label": [cell["label"] for cell in cells], "score": [cell["score"] for cell in cells]}
        return {
            "model_name": model.name, "model_version": model.version,
            **({} if request.id is None else {"id": request.id}),
            "outputs": [
                {"name": name, "shape": shape, "datatype": OUTPUTS[name], "data": data[name]} for name in names
            ],
        }  # fmt: skip

    return await classify(http, name, request.texts(), render, truncate=options.truncate, timeout_ms=options.timeout_ms)


async def _check_ready(http: Request) -> None:
    if not await get_models(http).healthy():
        raise ServeError("Unhealthy", "the model fails or the server is shutting down")
