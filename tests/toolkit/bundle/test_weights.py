"""Bytes and parameters of weight files by part of the model, against counts worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from toolkit.bundle.weights import file_bytes, safetensors_parameters
from toolkit.cli.inspect_bundle import Group, tensor_groups
from toolkit.errors import ToolkitError

HIDDEN, FFN, LAYERS, VOCABULARY = 24, 48, 3, 98  # of conftest's tiny_bert


def test_safetensors_are_counted_from_their_header(tmp_path: Path, tiny_bert: Callable[..., Any]) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    assert safetensors_parameters(tmp_path / "model.safetensors") == sum(one.numel() for one in model.parameters())


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
    numbers = [embeddings, LAYERS * attention, head, LAYERS * rest]
    names = ["embeddings", "attention", "pooler and head", "feed-forward and layer norms"]
    wanted = {name: Group(4 * count, count) for name, count in zip(names, numbers, strict=True)}
    assert tensor_groups(tiny_student / "model.safetensors") == wanted


def test_external_data_counts(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx / "model.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    assert tensor_groups(tmp_path / "model.onnx") == tensor_groups(tiny_onnx / "model.onnx")
