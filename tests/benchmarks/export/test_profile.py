"""The profile of a graph: integer products by shape, and fractions of the time by operator."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.export.profile import by_operator, linear_shapes, multiply_rate
from benchmarks.export.speed import write_models


def test_the_integer_products_of_a_graph(tiny_student: Path, tmp_path: Path) -> None:
    write_models(tiny_student, None, tmp_path)
    assert linear_shapes(tmp_path / "int8.onnx") == Counter({(24, 24): 12, (24, 48): 3, (48, 24): 3})


def test_shares_by_operator(tmp_path: Path) -> None:
    """A large product and a small sum: the product takes more, shares sum to one."""
    weight = numpy_helper.from_array(np.ones((512, 512), dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("ReduceMax", ["y"], ["z"], keepdims=0)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 512])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "two", [x], [z], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    ms, shares = by_operator(tmp_path / "m.onnx", {"x": np.ones((256, 512), dtype=np.float32)}, tmp_path)
    assert ms > 0
    assert list(shares) == ["MatMul", "ReduceMax"]
    assert sum(shares.values()) == pytest.approx(1)


def test_a_rate_of_products_is_a_positive_number() -> None:
    """More products in one call run at a higher rate: a call has a cost of its own."""
    small, large = multiply_rate(1, 8, 8), multiply_rate(64, 256, 256)
    assert 0 < small < large
