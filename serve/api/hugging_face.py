"""POST / for Hugging Face's `InferenceClient(...).text_classification(text, model="http://...")`.

The inputs are a text or several, never a pair; the answer always has a list of labels for each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr, WithJsonSchema
from pydantic.functional_validators import AfterValidator

from serve.api.classify import classify, get_models, ranked_labels
from serve.api.schemas import Inputs, Prediction, TopK, error_responses, parse_inputs
from serve.engine.engine import EngineResult
from serve.engine.limits import MAX_INPUTS
from serve.exceptions import ServeError
from serve.http.json_route import JsonRoute
from serve.models.registry import Model

FAILURES = (400, 401, 413, 415, 422, 424, 429, 500, 503, 504)
_TEXT = {"type": "string", "minLength": 1}
_INPUTS_SCHEMA = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}], "title": "Inputs"}
router = APIRouter(route_class=JsonRoute)


def _each_a_text(value: str | list[str]) -> str | list[str]:
    parse_inputs([[text] for text in ([value] if isinstance(value, str) else value)])  # refuses empty texts
    return value


class Parameters(BaseModel):
    """How to answer, as the pipelines of transformers have it."""

    top_k: TopK | None = Field(default=None, description="Answer with the best so many labels only.")
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        default=None, description="From logits to scores: the model's own unless given; none answers with logits."
    )


class PipelineRequest(BaseModel):
    """Texts to classify; fields not known here, such as `options`, are passed over as Hugging Face's own servers do."""

    model_config = ConfigDict(extra="ignore")

    inputs: Annotated[
        StrictStr | Annotated[list[StrictStr], Field(max_length=MAX_INPUTS, fail_fast=True)],
        AfterValidator(_each_a_text), WithJsonSchema(_INPUTS_SCHEMA),
    ]  # fmt: skip
    parameters: Parameters = Parameters()


@router.post("/", response_model=list[list[Prediction]], responses=error_responses(*FAILURES))
async def pipeline(http: Request, request: PipelineRequest) -> Response:
    """Classify texts by the server's first model, for Hugging Face's InferenceClient."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    function, top_k = request.parameters.function_to_apply, request.parameters.top_k

    def render(model: Model, result: EngineResult) -> Any:
        return ranked_labels(result.logits, model.task, raw_scores=function == "none", top_k=top_k)

    own = {"classification": "softmax", "multi_label": "sigmoid"}.get(get_models(http).get().task.kind, "none")
    if function not in (None, "none", own):
        raise ServeError("Validation", f"`function_to_apply` is {function}: this model's is {own}")
    return await classify(http, None, Inputs(tuple((text, None) for text in texts), batch=len(texts) > 1), render)
