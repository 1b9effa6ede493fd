"""Weight files: bytes and parameters by part of the model, and the operators of a graph."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

# what names of tensors and nodes say, the first that matches; "attention" before the layer's own "output"
PARTS = {
    "embeddings": r"embedding",
    "attention": r"attention|\battn\b",
    "feed-forward": r"intermediate|output[./](dense|LayerNorm)|ffn|mlp",
    "head": r"pooler|classifier",
    "other": r"",
}


def safetensors_parameters(path: Path) -> int:
    """Numbers stored in a safetensors file, counted from its header alone.

    Raises:
        ToolkitError: not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ToolkitError(f"{path} is not a safetensors file: {error}") from None


def file_bytes(path: Path) -> int:
    """Bytes of a weight file and of the external data beside it (model.onnx.data, model.onnx_data)."""
    return sum(one.stat().st_size for one in path.parent.iterdir() if one.is_file() and one.name.startswith(path.name))


def weight_parts(path: Path) -> dict[str, int]:
    """Bytes of a weight file by part of the model, largest concern first: they add up to `file_bytes`.

    A tensor belongs to the part that its name or, in ONNX, the nodes that read it name; "other" is the graph, headers
    and tensors that nothing tells of.

    Args:
        path: model.onnx or model.safetensors.
    """
    parts = dict.fromkeys(PARTS, 0)
    tensors = _safetensors_tensors(path) if path.suffix == ".safetensors" else _onnx_tensors(path)
    for name, size in tensors:
        parts[part_of(name)] += size
    parts["other"] += file_bytes(path) - sum(parts.values())
    return parts


def part_of(name: str) -> str:
    """The part of the model that a tensor's name, or the names around it, speak of."""
    return next((part for part, pattern in PARTS.items() if re.search(pattern, name)), "other")


def _safetensors_tensors(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    found = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return [(name, end - start) for name, (start, end) in found.items()]


def _onnx_tensors(path: Path) -> list[tuple[str, int]]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    bits = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}
    return [
        (
            " ".join([one.name, *readers.get(one.name, [])]),
            math.prod(one.dims)
            * bits.get(one.data_type, 8 * onnx.helper.tensor_dtype_to_np_dtype(one.data_type).itemsize) // 8,
        )
        for one in graph.initializer
    ]  # fmt: skip


def operators(path: Path) -> Counter[str]:
    """How often each operator stands in an ONNX graph."""
    return Counter(node.op_type for node in read_graph(path).node)


def read_graph(path: Path) -> Any:
    """The graph of an ONNX file, without its external data.

    Raises:
        ToolkitError: not an ONNX file.
    """
    import onnx

    try:
        return onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError has no public base
        raise ToolkitError(f"{path} is no ONNX graph: {error}", fix="export the bundle again") from error
