"""Schemas of requests and answers: /predict as text-embeddings-inference has it, and one shape for every error.

Beyond text-embeddings-inference, an input may be a {"text", "text_pair"} object, alone or in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi.openapi.models import Example
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import PydanticCustomError

from serve.engine.limits import MAX_INPUTS
from serve.engine.tokenization import Text
from serve.exceptions import NO_KEY, ErrorResponse, ErrorType

MAX_TIMEOUT_MS = 600_000
BATCH_HINT = 'a batch is a list of lists: [["first text"], ["second text"], ["a text", "its pair"]]'
_whole = BeforeValidator(lambda value: int(value) if type(value) is float and value.is_integer() else value)  # 5.0
# right and left are read too, unsaid: generators of clients make one name of Right and right
_capitalized = BeforeValidator(lambda value: value.capitalize() if value in ("right", "left") else value)
TopK = Annotated[StrictInt, Field(ge=1), _whole]
Abstain = StrictBool | Literal["error"]
Milliseconds = Annotated[StrictInt, Field(ge=1, le=MAX_TIMEOUT_MS), _whole]


@dataclass(frozen=True)
class Inputs:
    """The inputs of one request: n texts or pairs, and whether the answer is a list per input."""

    texts: tuple[Text, ...]
    batch: bool


def parse_inputs(value: Any) -> Inputs:
    """Read `inputs` in any of its shapes.

    Raises:
        PydanticCustomError: type "empty" for nothing to classify, "inputs" for a shape that is none of them.
    """
    if isinstance(value, list) and not value:
        raise PydanticCustomError("empty", "`inputs` cannot be empty")
    if not isinstance(value, list) or isinstance(value[0], str):
        return Inputs((_parse_input(value, "inputs"),), batch=False)
    if len(value) > MAX_INPUTS:
        raise PydanticCustomError("inputs", f"batch size {len(value)} > maximum allowed batch size {MAX_INPUTS}")
    return Inputs(tuple(_parse_member(member, f"inputs[{i}]") for i, member in enumerate(value)), batch=True)


def _parse_member(value: Any, where: str) -> Text:
    """Read an input of a batch."""
    if isinstance(value, str):
        raise PydanticCustomError("inputs", f"`{where}` is a string among lists: {BATCH_HINT}")
    return _parse_input(value, where)


def _parse_input(value: Any, where: str) -> Text:
    """Read a string, a list of one or two strings, or an object with `text` and perhaps `text_pair`."""
    if isinstance(value, dict):
        unknown = next(iter(value.keys() - {"text", "text_pair"}), None)
        if unknown is not None or "text" not in value:
            problem = "has no field `text`" if unknown is None else f"has an unknown field {unknown[:40]!r}"
            raise PydanticCustomError("inputs", f'`{where}` {problem}: expected {{"text": ..., "text_pair": ...}}')
        parts = [value["text"]] if value.get("text_pair") is None else [value["text"], value["text_pair"]]
    else:
        parts = value if isinstance(value, list) else [value]
    if len(parts) > 2:
        problem = f"has {len(parts)} entries; one is a text, two are a pair, and {BATCH_HINT}"
        raise PydanticCustomError("inputs", f"`{where}` {problem}")
    for part in parts:
        _check_string(part, where)
    if not any(parts):
        raise PydanticCustomError("empty", f"`{where}` cannot be empty")
    return parts[0], parts[1] if len(parts) == 2 else None


def _check_string(part: Any, where: str) -> None:
    if not isinstance(part, str):
        names = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null"}
        expected = f"a string, a pair of strings [string, string] or a batch; {BATCH_HINT}"
        raise PydanticCustomError("inputs", f"`{where}` holds {names.get(type(part), 'a number')}: expected {expected}")
    try:
        part.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("inputs", f"`{where}` holds half of a surrogate pair, which is no text") from None


def _array(items: JsonSchemaValue, least: int, most: int | None = None, **rest: Any) -> JsonSchemaValue:
    return {"type": "array", "items": items, "minItems": least} | ({"maxItems": most} if most else {}) | rest


_STRING = {"type": "string"}
_SOME = _STRING | {"minLength": 1}  # of a pair, one of the two may be empty
_OBJECT = {
    "type": "object",
    "title": "TextInput",
    "description": "A text, or a pair where text_pair is given.",
    "properties": {"text": _STRING, "text_pair": {"anyOf": [_STRING, {"type": "null"}]}},
    "required": ["text"],
    "additionalProperties": False,
    "anyOf": [{"properties": {"text": _SOME}}, {"properties": {"text_pair": _SOME}, "required": ["text_pair"]}],
}
_ONE_OR_TWO = _array(_STRING, 1, 2, contains=_SOME)
INPUTS_SCHEMA: dict[str, Any] = {
    "title": "Inputs",
    "description": "A text, a pair of texts, or a batch of texts and pairs.",
    "anyOf": [
        _SOME | {"description": "A text."},
        _ONE_OR_TWO | {"description": "One string is a text, two are a pair."},
        _OBJECT,
        _array({"anyOf": [_ONE_OR_TWO, _OBJECT]}, 1, description="A batch of texts and pairs."),
    ],
}


class ClassifyRequest(BaseModel):
    """The inputs to classify, and options."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    inputs: Annotated[Inputs, BeforeValidator(parse_inputs), WithJsonSchema(INPUTS_SCHEMA)]
    truncate: StrictBool | None = Field(
        None, description="Cut inputs longer than the model's max_input_length (the default), or refuse them (false)."
    )
    truncation_direction: Annotated[Literal["Right", "Left"], _capitalized] = Field(
        "Right", description="The end that is cut: Right keeps the start of a text, Left its end."
    )
    raw_scores: StrictBool = Field(False, description="Answer with logits instead of probabilities.")
    top_k: TopK | None = Field(None, description="Answer with the best so many labels only.")
    details: StrictBool = Field(False, description="Say of each answer whether its score is below the threshold.")
    abstain: Abstain = Field(
        False, description="Withhold an answer whose score is below the threshold: its label is null (true), or the "
        "request gets an error, Unsure (error).",
    )  # fmt: skip
    timeout_ms: Milliseconds | None = Field(
        None,
        description="Milliseconds after which an answer is of no use: 504 then, or 429 at once when it could not be "
        "met. The default is in /info.",
    )  # fmt: skip


def _refuse_parameters(_: Any) -> None:
    problem = "`parameters` is read by POST / and /v2 only: here `top_k` and the other options stand beside `inputs`"
    raise PydanticCustomError("inputs", problem)


class PredictRequest(ClassifyRequest):
    """A request of text-embeddings-inference; fields not known here are passed over, as there."""

    parameters: SkipJsonSchema[Annotated[None, BeforeValidator(_refuse_parameters)]] = None


class Prediction(BaseModel):
    """One label and its score; for regression the label is `score` and the score is the number itself."""

    score: float = Field(examples=[0.98])
    label: str | None = Field(examples=["positive"], description="null where `abstain` withholds an unsure answer.")
    unsure: bool | None = Field(None, description="Of the best label, with `details`; null where nothing tells.")


PredictResponse = list[Prediction] | list[list[Prediction]]


class Classifier(BaseModel):
    """The labels by their number, as in config.json."""

    id2label: dict[str, str] = Field(examples=[{"0": "negative", "1": "positive"}])
    label2id: dict[str, int] = Field(examples=[{"negative": 0, "positive": 1}])


class ClassifierType(BaseModel):
    """A model of several labels."""

    classifier: Classifier


class RerankerType(BaseModel):
    """A model of one label, which text-embeddings-inference calls a reranker."""

    reranker: Classifier


Kind = Literal["classification", "regression", "multi_label"]
Precision = Literal["fp32", "fp16", "int8"]


class ModelCard(BaseModel):
    """One served model."""

    name: str = Field(description="For /models/{name}/predict; answers carry it in the header x-model.")
    digest: str = Field(description="SHA-256 of the bundle; answers carry its start in the header x-model-digest.")
    task: str
    kind: Kind
    labels: list[str]
    pair: bool = Field(description="Each input is a pair of texts.")
    precision: Precision
    max_length: int = Field(description="Tokens of one input, special ones included.")
    threshold: float | None = Field(description="Answers whose best score is below it are unsure; null for none.")
    fallback: str | None = Field(None, description="Who answers what this model is unsure of; null for nobody.")


class Info(BaseModel):
    """The first model and the limits of this server: text-embeddings-inference's fields first, then ours."""

    model_id: str = Field(description="The first model's name, which is its bundle's directory unless given.")
    model_sha: str = Field(description="The bundle's digest: SHA-256 of everything in it.")
    model_dtype: Precision
    served_model_name: str = Field(description="The same as model_id.")
    model_type: ClassifierType | RerankerType
    max_concurrent_requests: int = Field(description="Inputs accepted and not yet answered; more are refused, 429.")
    max_input_length: int = Field(description="Tokens of one input, special ones included.")
    max_batch_tokens: int = Field(description="Tokens of one batch, padding included.")
    max_batch_requests: int = Field(description="Inputs of one batch.")
    max_client_batch_size: int = Field(description="Inputs of one request.")
    auto_truncate: Literal[True] = Field(description="Inputs are cut unless the request says truncate: false.")
    tokenization_workers: int
    version: str = Field(description="Of this toolkit.")
    sha: str | None = None
    docker_label: str | None = None
    task: str
    kind: Kind
    labels: list[str]
    precision: Precision
    max_length: int
    digest: str
    models: list[ModelCard] = Field(description="Everything served here; the first answers /predict.")
    versions: dict[str, str] = Field(description="Packages that run here.")
    payload_limit: int = Field(description="Bytes of one request body.")
    timeout_ms: int = Field(description="Milliseconds that a request may take unless it names its own timeout_ms.")


_EXAMPLES: dict[int, tuple[str, ErrorType, str]] = {
    401: ("No API key, or a wrong one, where the server asks for one", "Unauthorized", NO_KEY),
    400: ("Nothing to classify", "Empty", "`inputs` cannot be empty"),
    404: ("No such path or model", "Validation", "no model 'x'; this server has int8"),
    409: ("Not in this state", "Validation", "int8 has no earlier model to go back to"),
    413: ("Body too large", "Validation", "the body is larger than 2000000 bytes"),
    415: ("Not JSON", "Validation", "Content-Type is text/plain: expected application/json"),
    422: (
        "Not a request that can be answered",
        "Validation",
        f"`inputs` has 3 entries; {BATCH_HINT}",
    ),
    424: ("The model failed", "Backend", "the model gave scores that are not finite"),
    429: (
        "Too many requests at once, or too many for this one's deadline; see Retry-After",
        "Overloaded",
        "Model is overloaded",
    ),
    500: ("A fault in the server itself", "Backend", "internal error; the server's log says more"),
    503: ("Not ready yet, or shutting down", "Unhealthy", "not ready"),
    504: ("Not answered in time", "Timeout", "no answer within 30000 ms"),
}


def error_responses(*statuses: int) -> dict[int | str, JsonSchemaValue]:
    """Make the OpenAPI entries of the errors that a path can answer with."""
    entries: dict[int | str, JsonSchemaValue] = {}
    for status in statuses:
        entries[status] = _error(*_EXAMPLES[status])
        if status == 429:
            entries[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return entries


def _error(description: str, error_type: ErrorType, message: str) -> JsonSchemaValue:
    content = {"application/json": {"example": {"error": message, "error_type": error_type}}}
    return {"model": ErrorResponse, "description": description, "content": content}


UNSURE: dict[int | str, JsonSchemaValue] = {
    409: _error("With `abstain`: an unsure answer, or no threshold to tell by", "Unsure", "the model is unsure")
}
PREDICT_EXAMPLES: dict[str, Example] = {
    "text": {"summary": "One text", "value": {"inputs": "a warm and funny film"}},
    "pair": {"summary": "One pair", "value": {"inputs": ["A man is eating.", "Someone eats."]}},
    "batch": {"summary": "A batch", "value": {"inputs": [["a warm film"], ["dull"], ["a text", "its pair"]]}},
    "object": {"summary": "Named", "value": {"inputs": {"text": "A man is eating.", "text_pair": "Someone eats."}}},
    "raw": {"summary": "Logits, not cut", "value": {"inputs": "dull", "raw_scores": True, "truncate": False}},
}
