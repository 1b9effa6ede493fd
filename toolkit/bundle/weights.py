"""Weight files: bytes and parameters by part of the model, and the operators of a graph."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.files import open_regular

MAX_HEADER_BYTES = 100_000_000  # the format's own bound

# patterns in the names of tensors and nodes, the first match decides: "attention" before the layer's own "output"
PARTS = {
    "embeddings": r"embedding",
    "attention": r"attention|\battn\b",
    "feed-forward": r"intermediate|output[./](dense|LayerNorm)|ffn|mlp",
    "head": r"pooler|classifier",
    "other": r"",
}


@dataclass
class WeightPart:
    """The bytes and parameters of a part of the model in a weight file.

    Attributes:
        size_bytes: bytes on disk.
        parameters: numbers stored, constants of a graph included.
    """

    size_bytes: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class _Tensor:
    """A stored tensor. `label` is its name and, in ONNX, the names of the nodes that read it."""

    label: str
    size_bytes: int
    parameters: int


def weight_parts(path: Path) -> dict[str, WeightPart]:
    """Split a weight file by part of the model, in the order of PARTS; the bytes add up to `file_bytes`.

    A tensor belongs to the part that its name or, in ONNX, the nodes that read it name. "other" holds the graph, the
    headers and the tensors that match no part.

    Args:
        path: model.onnx or model.safetensors.

    Raises:
        ToolkitError: not a file of its kind.
    """
    parts = {name: WeightPart() for name in PARTS}
    for tensor in _safetensors_tensors(path) if path.suffix == ".safetensors" else _onnx_tensors(path):
        part = parts[next(name for name, pattern in PARTS.items() if re.search(pattern, tensor.label))]
        part.size_bytes += tensor.size_bytes
        part.parameters += tensor.parameters
    parts["other"].size_bytes += file_bytes(path) - sum(part.size_bytes for part in parts.values())
    return parts


def safetensors_parameters(path: Path) -> int:
    """Count the numbers stored in a safetensors file, from its header alone.

    Raises:
        ToolkitError: not a safetensors file.
    """
    return sum(tensor.parameters for tensor in _safetensors_tensors(path))


def file_bytes(path: Path) -> int:
    """Add up the bytes of a weight file and of the external data beside it (model.onnx.data, model.onnx_data)."""
    siblings = (sibling for sibling in path.parent.iterdir() if sibling.name.startswith(path.name))
    return sum(sibling.stat().st_size for sibling in siblings if sibling.is_file())


def operators(path: Path) -> Counter[str]:
    """Count the nodes of an ONNX graph by operator."""
    return Counter(node.op_type for node in _read_graph(path).node)


def _safetensors_tensors(path: Path) -> list[_Tensor]:
    """Read a safetensors header: its length in 8 bytes, then JSON with shape and place of each tensor."""
    try:
        with open_regular(path) as file:
            (length,), size = struct.unpack("<Q", file.read(8)), os.fstat(file.fileno()).st_size
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file or the format's bound")
            header = json.loads(file.read(length))
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        return [_tensor(name, entry["data_offsets"], entry["shape"], size - 8 - length) for name, entry in entries]
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ToolkitError(f"{path} is not a safetensors file: {error}", fix="make the bundle again") from None


def _tensor(name: str, offsets: list[int], shape: list[int], data_bytes: int) -> _Tensor:
    """Check a tensor of a safetensors header against the bytes that the file has for data."""
    start, end = offsets
    if not all(type(number) is int and 0 <= number < 2**63 for number in (start, end, *shape)):
        raise ValueError(f"{name}: a place or a shape that is no count")
    if not start <= end <= data_bytes or math.prod(shape) > 2 * (end - start):  # a number has 4 bits or more
        raise ValueError(f"{name}: more numbers than bytes to hold them")
    return _Tensor(name, end - start, math.prod(shape))


def _onnx_tensors(path: Path) -> list[_Tensor]:
    from onnx import TensorProto, helper

    graph = _read_graph(path)
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node.name)
    four_bit = (TensorProto.INT4, TensorProto.UINT4)
    tensors = []
    for constant in graph.initializer:
        parameters, kind = math.prod(constant.dims), constant.data_type
        try:
            bits = 4 if kind in four_bit else 8 * helper.tensor_dtype_to_np_dtype(kind).itemsize
        except KeyError:
            raise ToolkitError(f"{path}: {constant.name} holds numbers of no known kind ({kind})") from None
        label = " ".join([constant.name, *readers[constant.name]])
        tensors.append(_Tensor(label, parameters * bits // 8, parameters))
    return tensors


def _read_graph(path: Path) -> Any:
    """Read the graph of an ONNX file without its external data.

    Raises:
        ToolkitError: not an ONNX file.
    """
    import onnx

    try:
        return onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError has no public base
        raise ToolkitError(f"{path} is no ONNX graph: {error}", fix="export the bundle again") from error
