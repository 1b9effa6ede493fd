"""The Open Inference Protocol's binary tensors: bytes behind the JSON of a request or an answer.

A header says how long the JSON is; each tensor with the parameter `binary_data_size` then takes so many bytes in turn.
BYTES are strings, each behind its length in 4 bytes; FP32 are 4 bytes each; both little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json

from serve.api.tensors import INPUTS
from serve.engine.limits import MAX_INPUTS
from serve.exceptions import ServeError
from serve.http.json_route import JsonRoute, parse_json

LENGTH_HEADER = "inference-header-content-length"
LENGTH = struct.Struct("<I")
MAX_DIGITS = 20  # of a length


class TensorRoute(JsonRoute):
    """A route for JSON with binary tensors behind it, which become the `data` of their tensors."""

    types = ("application/json", "application/octet-stream", "")  # tritonclient sends no Content-Type

    def read(self, http: Request, content: bytes) -> Any:
        """Parse a body and the tensors in it.

        Raises:
            ServeError: its JSON or its tensors are wrong.
            RequestValidationError: it is empty.
        """
        length = http.headers.get(LENGTH_HEADER)
        if length is None:
            return parse_json(content)
        size = int(length) if length.isdecimal() and len(length) <= MAX_DIGITS else 0
        if not 0 < size <= len(content):
            part = f"a part of the {len(content)} bytes of the body"
            raise ServeError("Validation", f"Inference-Header-Content-Length is {length[:MAX_DIGITS]}, not {part}")
        value = parse_json(content[:size])
        _fill_in(value, memoryview(content)[size:])
        return value


def _fill_in(value: Any, data: memoryview) -> None:
    """Give the tensors of a request their data; what is no request is left to the schema to refuse."""
    inputs = value.get("inputs") if isinstance(value, dict) else None
    at = 0
    for tensor in inputs[: len(INPUTS)] if isinstance(inputs, list) else []:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(data) - at:
            raise ServeError(
                "Validation", f"`binary_data_size` is not a number of the {len(data) - at} bytes that are left"
            )
        if "data" in tensor:
            raise ServeError("Validation", "a tensor has `data` and `binary_data_size`: expected one of them")
        tensor["data"] = list(_strings(data[at : at + size]))
        at += size
    if at < len(data):
        raise ServeError("Validation", f"{len(data) - at} bytes follow the tensors")


def _strings(data: memoryview) -> Iterator[str]:
    """Read BYTES; more of them than any request may have end the reading."""
    at = 0
    for _ in range(MAX_INPUTS + 1):
        if at == len(data):
            return
        start = at + LENGTH.size
        end = start + LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if end > len(data):
            raise ServeError("Validation", "a binary tensor ends inside a string")
        try:
            yield str(data[start:end], "utf-8")
        except UnicodeDecodeError:
            raise ServeError("Validation", "a binary tensor holds a string that is not UTF-8") from None
        at = end


def encode_tensor(values: Sequence[str] | Sequence[float]) -> bytes:
    """Write strings as BYTES and numbers as FP32."""
    if values and isinstance(values[0], str):
        encoded = [str(value).encode() for value in values]
        return b"".join(LENGTH.pack(len(string)) + string for string in encoded)
    return np.asarray(values, dtype="<f4").tobytes()


def binary_response(header: Any, tensors: Sequence[bytes]) -> Response:
    """Make a response of JSON and of the tensors that it announces."""
    start = to_json(header)
    headers = {LENGTH_HEADER: str(len(start))}
    return Response(b"".join((start, *tensors)), media_type="application/octet-stream", headers=headers)
