"""Schemas of the Open Inference Protocol: tensors in, tensors out.

Inputs are `text` and, for pairs, `text_pair`, shape [n] or [n, 1]; outputs are `label` (BYTES) and `score` (FP32),
shape [n, C]: every input's labels, best first, or [n, k] with the parameter `top_k`. With `class_count` the
scores are the k best classes as the strings SCORE:NUMBER:LABEL, shape [n, k].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, StrictBool, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from serve.api.schemas import MAX_TIMEOUT_MS, Inputs, Milliseconds, TopK, parse_inputs
from serve.engine.limits import MAX_INPUTS

INPUTS = ("text", "text_pair")
OUTPUTS: dict[str, Literal["BYTES", "FP32"]] = {"label": "BYTES", "score": "FP32"}  # to their datatypes
NOT_DONE = ("sequence_id", "sequence_start", "sequence_end", "priority")


class V2Error(BaseModel):
    """The body of every error under /v2."""

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


class OutputParameters(BaseModel):
    """How to answer with an output."""

    binary_data: StrictBool | None = Field(
        default=None, description="Bytes behind the JSON, or numbers and strings in it."
    )
    classification: TopK | None = Field(
        default=None, description="tritonclient's class_count: the best so many classes."
    )


class RequestedOutput(BaseModel):
    """An output to answer with."""

    name: Literal["label", "score"]
    parameters: OutputParameters = OutputParameters()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "label" and self.parameters.classification is not None:
            raise PydanticCustomError("inputs", "`classification` of `label`: ask for it of `score`")
        return self


class InferParameters(BaseModel):
    """The options of /predict, and those of the protocol."""

    truncate: StrictBool = True
    raw_scores: StrictBool = False
    top_k: TopK | None = None
    timeout_ms: Milliseconds | None = None
    timeout: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="tritonclient's, in microseconds."
    )
    binary_data_output: StrictBool = Field(
        default=False, description="Answer with binary tensors unless an output says otherwise."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        name = next((name for name in NOT_DONE if isinstance(value, dict) and name in value), None)
        if name is not None:
            raise PydanticCustomError("inputs", f"`{name}`: requests have no order and no sequence here")
        return value

    def milliseconds(self) -> int | None:
        """Return the time that the request may take, from either parameter."""
        if self.timeout_ms is None and self.timeout is not None:
            return min(MAX_TIMEOUT_MS, max(1, self.timeout // 1000))
        return self.timeout_ms


class InferRequest(BaseModel):
    """Texts to classify."""

    id: str | None = Field(None, max_length=256)
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=2)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=16, fail_fast=True)] | None = None
    parameters: InferParameters = InferParameters()
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

    def requested(self) -> list[RequestedOutput]:
        """Return the outputs to answer with, each once; all of them unless the request names some."""
        outputs = self.outputs or [RequestedOutput(name="label"), RequestedOutput(name="score")]
        return list({output.name: output for output in outputs}.values())

    def is_binary(self, output: RequestedOutput) -> bool:
        """Return whether an output's data stands behind the JSON."""
        chosen = output.parameters.binary_data
        return self.parameters.binary_data_output if chosen is None else chosen


class BinarySize(BaseModel):
    """The parameters of a binary output."""

    binary_data_size: int


class OutputTensor(BaseModel):
    """One output, its data flat in row-major order, here or behind the JSON."""

    name: Literal["label", "score"]
    shape: list[int]
    datatype: Literal["BYTES", "FP32"]
    data: list[str] | list[float] | None = None
    parameters: BinarySize | None = None


class InferResponse(BaseModel):
    """Labels and scores."""

    model_name: str
    model_version: str = Field(description="Start of the bundle's digest.")
    id: str | None = None
    outputs: list[OutputTensor]
