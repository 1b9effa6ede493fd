"""The time of our int8 graph by operator, and the time of its arithmetic alone on this CPU, with one thread.

Time by operator is onnxruntime's own profile. The arithmetic is MatMulInteger alone, in the same onnxruntime: products
of uint8 and int8 matrices of the model's shapes, and of a shape so large that only the products count. The number of
multiply-adds over that peak rate is the least time that a runtime with the same kernels needs for the quantized layers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit.data.tokenization import Batch

PEAK = (1024, 1024, 1024)  # M, K, N
REPEATS = 30


def profile(folder: Path, cells: dict[str, Any], shapes: Sequence[str]) -> dict[str, Any]:
    """Measure each shape: ms a run, fraction by operator, ms of the integer products alone and at the peak rate."""
    layers = linear_shapes(folder / "int8.onnx")
    peak = multiply_rate(*PEAK)
    profiles = {}
    for cell in shapes:
        batch = cells[cell][0]
        rows = batch["input_ids"].size
        products = sum(count * rows * k * n for (k, n), count in layers.items())
        alone_ms = sum(1e3 * count * rows * k * n / multiply_rate(rows, k, n) for (k, n), count in layers.items())
        ms, fractions = by_operator(folder / "int8.onnx", batch, folder)
        fp32_ms, fp32_fractions = by_operator(folder / "fp32.onnx", batch, folder)
        profiles[cell] = {
            "ms": ms, "operator_share": fractions, "fp32_ms": fp32_ms, "fp32_operator_share": fp32_fractions,
            "int8_multiply_adds": products, "int8_products_ms": alone_ms, "arithmetic_limit_ms": 1e3 * products / peak,
        }  # fmt: skip
    return {"peak_shape": PEAK, "peak_multiply_adds_per_s": peak, "cells": profiles}


def linear_shapes(path: Path) -> Counter[tuple[int, int]]:
    """Count the integer weight matrices by shape [K, N], without the pooler, which reads one row a text."""
    graph = onnx.load(path).graph
    dims = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    return Counter(
        dims[node.input[1]]
        for node in graph.node
        if node.op_type.startswith("MatMulInteger") and "pooler" not in node.name
    )


def by_operator(path: Path, batch: Batch, folder: Path) -> tuple[float, dict[str, float]]:
    """Return the median ms of a run without profiling, and each operator's fraction of the kernels' time with it."""
    import time

    import onnxruntime

    def session(**options: Any) -> Any:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = 1, 3
        for name, value in options.items():
            setattr(settings, name, value)
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    plain = session()
    feed = {value.name: batch[value.name] for value in plain.get_inputs()}
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        plain.run(None, feed)
        times.append((time.perf_counter_ns() - start) / 1e6)
    traced = session(enable_profiling=True, profile_file_prefix=str(folder / "profile"))
    for _ in range(REPEATS):
        traced.run(None, feed)
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(traced.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"])
    spent: dict[str, float] = defaultdict(float)
    for (name, _), durations in nodes.items():
        spent[name] += float(np.median(durations))  # a median for each node leaves out runs that were interrupted
    total = sum(spent.values())
    return float(np.median(times)), {name: spent[name] / total for name in sorted(spent, key=lambda name: -spent[name])}


def multiply_rate(m: int, k: int, n: int) -> float:
    """Measure the multiply-adds a second of one thread: uint8 [M, K] by int8 [K, N] within +-63, int32 out."""
    import time

    import onnxruntime

    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.integers(-63, 64, (k, n), dtype=np.int8), "w")
    zero = numpy_helper.from_array(np.uint8(128), "zero")
    node = helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [m, k])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [m, n])
    graph = helper.make_graph([node], "product", [x], [y], [weight, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    feed = {"x": random.integers(0, 256, (m, k), dtype=np.uint8)}
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        session.run(None, feed)
        times.append((time.perf_counter_ns() - start) / 1e9)
    return m * k * n / float(np.median(times))
