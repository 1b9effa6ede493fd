"""POST /, which text-embeddings-inference and Hugging Face's `InferenceClient` both ask.

A body with `parameters` or `options`, as InferenceClient sends, is Hugging Face's: texts in, a list of labels for each
out. Any other body is text-embeddings-inference's, and its answer is that of /predict.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from serve.api.classify import classify, get_models, ranked_labels
from serve.api.routes import classify_as_predict
from serve.api.schemas import (
    INPUTS_SCHEMA,
    UNSURE,
    ClassifyRequest,
    Inputs,
    PredictResponse,
    TopK,
    error_responses,
    parse_inputs,
)
from serve.engine.engine import EngineResult
from serve.engine.limits import MAX_INPUTS
from serve.exceptions import ServeError
from serve.http.json_route import JsonRoute
from serve.models.registry import Model

FAILURES = (400, 401, 413, 415, 422, 424, 429, 500, 503, 504)
HUGGING_FACE_FIELDS = {"parameters", "options"}
PREDICT_FIELDS = ("raw_scores", "truncate", "truncation_direction", "top_k", "details", "abstain")
TEXTS_SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "With `parameters`: texts."}
router = APIRouter(route_class=JsonRoute)


class PipelineParameters(BaseModel):
    """How to answer, as the pipelines of transformers have it."""

    top_k: TopK | None = Field(default=None, description="Answer with the best so many labels only.")
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="From logits to scores: the model's own unless given; none answers with logits."
    )
    truncation: StrictBool = Field(default=True, description="Cut texts that are too long, or refuse them (false).")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        unknown = (
            next((name for name in value if name not in cls.model_fields), None) if isinstance(value, dict) else None
        )
        if unknown is not None:
            problem = f"`parameters` has an unknown field {unknown[:40]!r}: expected {', '.join(cls.model_fields)}"
            raise PydanticCustomError("inputs", problem)
        return value


class RootRequest(ClassifyRequest):
    """Texts as text-embeddings-inference or, with `parameters` or `options`, as Hugging Face reads them."""

    inputs: Annotated[
        Inputs, BeforeValidator(parse_inputs),
        WithJsonSchema(INPUTS_SCHEMA | {"anyOf": [*INPUTS_SCHEMA["anyOf"], TEXTS_SCHEMA]}),
    ]  # fmt: skip
    parameters: PipelineParameters | None = None
    options: dict[str, Any] | None = Field(
        default=None, description="Hugging Face's, such as use_cache; without effect."
    )

    @model_validator(mode="before")
    @classmethod
    def _list_texts(cls, value: Any) -> Any:
        """Read every string of a list as a text of its own where Hugging Face would."""
        if not isinstance(value, dict) or not HUGGING_FACE_FIELDS & value.keys():
            return value
        mixed = next((name for name in PREDICT_FIELDS if name in value), None)
        if mixed is not None:
            problem = f"`{mixed}` stands beside `parameters`: put options into one of the two"
            raise PydanticCustomError("inputs", problem)
        inputs = value.get("inputs")
        if isinstance(inputs, list):
            return value | {"inputs": [[text] if isinstance(text, str) else text for text in inputs[: MAX_INPUTS + 1]]}
        return value

    @property
    def hugging_face(self) -> bool:
        """The request is Hugging Face's."""
        return not HUGGING_FACE_FIELDS.isdisjoint(self.model_fields_set)


@router.post("/", response_model=PredictResponse, responses=UNSURE | error_responses(*FAILURES))
async def root(http: Request, request: RootRequest) -> Response:
    """Classify by the server's first model, for clients of text-embeddings-inference and for InferenceClient."""
    if request.hugging_face:
        return await _pipeline(http, request.inputs, request.parameters or PipelineParameters(), request.timeout_ms)
    return await classify_as_predict(http, None, request)


async def _pipeline(http: Request, inputs: Inputs, parameters: PipelineParameters, timeout_ms: int | None) -> Response:
    """Answer with a list of labels for each text, also for a single one."""
    function = parameters.function_to_apply

    def render(model: Model, result: EngineResult) -> Any:
        scores = model.scores(result, raw=function == "none")
        return ranked_labels(scores, model.task, parameters.top_k)

    own = {"classification": "softmax", "multi_label": "sigmoid"}.get(get_models(http).get().task.kind, "none")
    if function not in (None, "none", own):
        raise ServeError("Validation", f"`function_to_apply` is {function}: this model's is {own}")
    return await classify(http, None, inputs, render, truncate=parameters.truncation, timeout_ms=timeout_ms)
