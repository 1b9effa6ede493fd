"""The operators of an ONNX graph: those that `toolkit export` writes, and none that loops, branches or brings code.

The check reads the file's protobuf itself and skips the weights: a server has no `onnx` package. Format:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import ToolkitError
from toolkit.files import open_regular

# The operators in exports of BERT's relatives, with onnxruntime's own of int8 and fused graphs. No Loop, If or Scan.
_ONNX = """
    Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Conv Cos CumSum DequantizeLinear Div Dropout
    DynamicQuantizeLinear Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater
    GreaterOrEqual Identity IsNaN LayerNormalization Less LessOrEqual Log MatMul MatMulInteger Max Min Mod Mul Neg Not
    Or Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape ScatterND Shape Sigmoid
    Sign Sin Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where
"""
_ONNXRUNTIME = """
    Attention BiasGelu BiasSoftmax DequantizeLinear DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedGemm
    FusedMatMul Gelu MatMulIntegerToFloat MultiHeadAttention QAttention QuantizeLinear QuickGelu SkipLayerNormalization
"""
ALLOWED_OPERATORS = {"": frozenset(_ONNX.split()), "com.microsoft": frozenset(_ONNXRUNTIME.split())}  # by domain
MAX_FIELDS = 1_000_000  # protobuf fields that the check reads; an export of 24 layers has some ten thousand
# numbers of the fields in onnx.proto
GRAPH, TRAINING, FUNCTIONS = 7, 20, 25  # of ModelProto
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
OPERATOR, ATTRIBUTE, DOMAIN = 4, 5, 7  # of NodeProto
SUBGRAPH, SUBGRAPHS = 6, 11  # of AttributeProto
EXTERNAL_DATA, ENTRY_KEY, ENTRY_VALUE = 13, 1, 2  # of TensorProto and its entries


def check_graph_file(path: Path) -> None:
    """Check the operators of an ONNX file, as `check_graph_bytes` does.

    Raises:
        ToolkitError: an operator that is not allowed, or no ONNX file.
    """
    with open_regular(path) as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            raise ToolkitError(f"{path} is no ONNX graph: it is empty", fix="export the bundle again") from None
    check_graph_bytes(content, path)


def check_graph_bytes(content: bytes | mmap.mmap, path: Path) -> None:
    """Check that a graph holds operators of ALLOWED_OPERATORS only, and data of its own folder only.

    Args:
        content: of the file.
        path: the file's name, for the error.

    Raises:
        ToolkitError: an operator that is not allowed, a part of the graph inside a node, functions, weights in another
            folder, or no ONNX file.
    """
    try:
        problem = next(_problems(memoryview(content)), None)
    except (ValueError, IndexError) as error:
        raise ToolkitError(f"{path} is no ONNX graph: {error}", fix="export the bundle again") from None
    if problem:
        raise ToolkitError(f"{path}: {problem}", expected="a graph that toolkit export wrote")


def _problems(model: memoryview) -> Iterator[str]:
    budget, graphs = [MAX_FIELDS], 0
    for number, value in _messages(model, budget):
        if number in (TRAINING, FUNCTIONS):
            yield "the graph brings functions or training of its own"
        if number != GRAPH:
            continue
        graphs += 1
        for part, content in _messages(value, budget):
            if part == NODE:
                yield from _node_problems(content, budget)
            elif part == SPARSE_INITIALIZER:
                yield "sparse weights"
            elif part == INITIALIZER:
                yield from _tensor_problems(content, budget)
    if not graphs:
        raise ValueError("it holds no graph")


def _node_problems(node: memoryview, budget: list[int]) -> Iterator[str]:
    operator = domain = ""
    for number, value in _messages(node, budget):
        if number == OPERATOR:
            operator = bytes(value[:100]).decode(errors="replace")
        elif number == DOMAIN:
            domain = bytes(value[:100]).decode(errors="replace")
        elif number == ATTRIBUTE and any(part in (SUBGRAPH, SUBGRAPHS) for part, _ in _messages(value, budget)):
            yield "a node holds a graph, as loops and branches do"
    if operator not in ALLOWED_OPERATORS.get("" if domain == "ai.onnx" else domain, ()):
        yield f"operator {f'{domain}.' if domain else ''}{operator} is not allowed"


def _tensor_problems(tensor: memoryview, budget: list[int]) -> Iterator[str]:
    """Yield data that lie in another folder than the graph."""
    for number, entry in _messages(tensor, budget):
        if number != EXTERNAL_DATA:
            continue
        pair = {part: bytes(value[:1000]) for part, value in _messages(entry, budget)}
        location = pair.get(ENTRY_VALUE, b"")
        if pair.get(ENTRY_KEY) == b"location" and (b"/" in location or b"\\" in location or location.startswith(b".")):
            yield f"weights in {location.decode(errors='replace')!r}, outside its folder"


def _messages(data: memoryview, budget: list[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the fields of a protobuf message that have a length; skip numbers.

    Raises:
        ValueError: no protobuf message, or more fields than the budget, which goes down.
    """
    place, end = 0, len(data)
    while place < end:
        budget[0] -= 1
        if budget[0] < 0:
            raise ValueError(f"more than {MAX_FIELDS:,} fields")
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == 0:
            _, place = _number(data, place)
            continue
        length, place = (8, place) if kind == 1 else (4, place) if kind == 5 else _number(data, place)
        if kind not in (1, 2, 5) or length > end - place:
            raise ValueError("it is cut or damaged")
        if kind == 2:
            yield tag >> 3, data[place : place + length]
        place += length


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is cut or damaged")
