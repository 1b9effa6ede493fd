"""JSON of others: parsed in bounded memory, and held against declared types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from toolkit.errors import ToolkitError
from toolkit.files import read_regular

MAX_ENTRIES = 1_500_000  # objects, lists and their named entries: a history of 250,000 rows fits
MAX_CONFIG_BYTES = 4 * 2**20
MAX_SHOWN = 200  # characters of a name in an error

Count = Annotated[int, Field(ge=0, le=2**62)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]


class ModelConfig(TypedDict, total=False):
    """The entries of a Hugging Face `config.json` that this toolkit reads itself."""

    model_type: str
    pad_token_id: Annotated[int, Field(ge=0, le=2**31 - 1)] | None
    vocab_size: Size
    max_position_embeddings: Size
    type_vocab_size: Annotated[int, Field(ge=0, le=2**31 - 1)]
    num_hidden_layers: Size
    num_attention_heads: Size
    hidden_size: Size
    intermediate_size: Size
    id2label: Annotated[dict[str, str], FailFast()]


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's `config.json`: the entries of ModelConfig have their types, others are as they stand.

    Raises:
        ToolkitError: it is missing, too large, no JSON object, or an entry has another type.
    """
    expected = "the config.json that Hugging Face's save_pretrained writes"
    try:
        config = parse_json(read_regular(path, MAX_CONFIG_BYTES))
        problem = next(type_problems(config, ModelConfig), None)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise ToolkitError(f"{path} is not a model's configuration: {problem}", expected=expected)
    return cast(dict[str, Any], config)


def parse_json(raw: bytes) -> Any:
    """Parse JSON whose size in memory is bounded: a file of empty lists takes twenty times its own bytes."""
    if raw.count(b"[") + raw.count(b"{") + raw.count(b":") > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES:,} entries")
    return json.loads(raw)


def parse_typed(content: bytes, shape: Any) -> Any:
    """Parse JSON that has a declared type.

    Raises:
        ValueError: it is no JSON, nested too deeply or too large, or the first entry that has another type.
    """
    try:
        value = parse_json(content)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if problem := next(type_problems(value, shape), None):
        raise ValueError(problem)
    return value


def type_problems(value: object, shape: Any) -> Iterator[str]:
    """Yield the entries that do not have the declared type or bounds."""
    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            place = ".".join(map(str, problem["loc"]))
            yield f"{place[:MAX_SHOWN] or 'all of it'}: {problem['msg']}"


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
