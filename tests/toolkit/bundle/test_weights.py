"""Bytes and parameters of weight files by part of the model, against counts worked out by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from toolkit.bundle.weights import WeightPart, file_bytes, operators, safetensors_parameters, weight_parts
from toolkit.errors import ToolkitError

HIDDEN, FFN, LAYERS, VOCABULARY = 24, 48, 3, 98  # of conftest's tiny_bert


def test_safetensors_are_counted_from_their_header(tmp_path: Path, tiny_bert: Callable[..., Any]) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    assert safetensors_parameters(tmp_path / "model.safetensors") == sum(
        weight.numel() for weight in model.parameters()
    )


@pytest.mark.parametrize(
    "raw", [b"", b"\x01", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{"]
)
def test_what_is_not_safetensors(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ToolkitError, match="not a safetensors file"):
        safetensors_parameters(path)


def test_external_data_belong_to_the_size(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"12345")
    (tmp_path / "model.onnx.data").write_bytes(b"1234567")
    (tmp_path / "other.onnx").write_bytes(b"1")
    assert file_bytes(tmp_path / "model.onnx") == 12


def test_sizes_by_part_of_a_pytorch_model(tiny_student: Path) -> None:
    embeddings = (VOCABULARY + 64 + 2) * HIDDEN + 2 * HIDDEN  # words, positions, types, layer norm
    attention = 4 * (HIDDEN * HIDDEN + HIDDEN) + 2 * HIDDEN
    rest = HIDDEN * FFN + FFN + FFN * HIDDEN + HIDDEN + 2 * HIDDEN
    head = HIDDEN * HIDDEN + HIDDEN + 2 * HIDDEN + 2
    counts = {
        "embeddings": embeddings, "attention": LAYERS * attention, "feed-forward": LAYERS * rest, "head": head,
    }  # fmt: skip
    path = tiny_student / "model.safetensors"
    expected = {name: WeightPart(4 * count, count) for name, count in counts.items()}
    header = path.stat().st_size - 4 * sum(counts.values())
    assert header == 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert weight_parts(path) == {**expected, "other": WeightPart(header, 0)}


def test_external_data_counts(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx / "model.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    inside, outside = weight_parts(tiny_onnx / "model.onnx"), weight_parts(tmp_path / "model.onnx")
    for name in ("embeddings", "attention", "feed-forward", "head"):
        assert outside[name] == inside[name], name
    assert outside["other"].parameters == inside["other"].parameters
    assert sum(part.size_bytes for part in outside.values()) == file_bytes(tmp_path / "model.onnx")


def save_graph(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [value], [], constants)), path)


def test_a_nameless_constant_belongs_to_the_node_that_reads_it(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.zeros((3, 5), np.int8), "onnx::MatMul_42")
    stray = onnx.numpy_helper.from_array(np.zeros(7, np.float32), "onnx::Add_1")
    words = onnx.helper.make_tensor("embeddings.word", onnx.TensorProto.INT4, [4, 6], [1] * 24)  # half a byte each
    node = onnx.helper.make_node(
        "MatMul", ["x", weight.name], ["y"], name="/bert/encoder/layer.0/attention/self/query/MatMul"
    )
    save_graph(tmp_path / "model.onnx", [node, node], [weight, stray, words])
    parts = weight_parts(tmp_path / "model.onnx")
    assert parts["attention"] == WeightPart(15, 15)
    assert parts["embeddings"] == WeightPart(12, 24)
    assert parts["other"].parameters == 7
    assert parts["head"] == parts["feed-forward"] == WeightPart(0, 0)
    assert operators(tmp_path / "model.onnx") == {"MatMul": 2}


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph at all")
    for read in (weight_parts, operators):
        with pytest.raises(ToolkitError, match="is no ONNX graph"):
            read(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1]}, {"shape": [1], "data_offsets": [0]}, {"shape": [1], "data_offsets": [0, "4"]},
        {"shape": [2, 2], "data_offsets": [-8, 8]}, {"shape": [10**4000], "data_offsets": [0, 8]},
        {"shape": [99], "data_offsets": [0, 8]}, {"shape": [1], "data_offsets": [0, 9]}, {"shape": 1}, 7, None,
    ],
)  # fmt: skip
def test_a_broken_safetensors_header_is_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ToolkitError, match="is not a safetensors file"):
        weight_parts(path)


@pytest.mark.parametrize("raw", [b"", b"1234567", struct.pack("<Q", 9) + b"{}", struct.pack("<Q", 9999) + b"[" * 9999])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(ToolkitError, match="is not a safetensors file"):
        weight_parts(tmp_path / "model.safetensors")


def test_numbers_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    constant = onnx.TensorProto(name="a", data_type=999, dims=[2], raw_data=bytes(2))
    save_graph(tmp_path / "model.onnx", [], [constant])
    with pytest.raises(ToolkitError, match="a holds numbers of no known kind"):
        weight_parts(tmp_path / "model.onnx")
