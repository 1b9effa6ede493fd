"""Candidate graphs of one classifier for a CPU; `export.tuning` verifies and times them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from export.graph.editor import GraphEditor
from export.int8.embeddings import LowBitSettings
from export.int8.quantize import IR_VERSION, OPSET, quantize_graph
from export.onnx_export import LayerCount, save_graph
from toolkit.console import quiet_libraries
from toolkit.data.tokenization import EncodedTexts

CALIBRATION_TEXTS = 64  # for onnxruntime's own static quantization


@dataclass(frozen=True)
class TuningInputs:
    """The float32 graph and the calibration that candidates are built from.

    Attributes:
        fp32: the float32 graph.
        layer_count: the PyTorch model's layers.
        calibration, words: as for `quantize_graph`.
        encoded, rows: calibration texts, and the numbers of those to use.
        heads, hidden: heads and width of the model.
    """

    fp32: Path
    layer_count: LayerCount
    calibration: Mapping[str, np.ndarray] | None
    words: LowBitSettings | None
    encoded: EncodedTexts | None
    rows: np.ndarray
    heads: int
    hidden: int


@dataclass(frozen=True)
class Candidate:
    """A graph of the model: `build` writes it to a path, `precision` decides which gates it has to pass."""

    name: str
    precision: str
    build: Callable[[Path], None]


def all_candidates(inputs: TuningInputs) -> list[Candidate]:
    """Return every candidate; with word embeddings of few bits, only candidates that have them."""

    def ours(calibration: Mapping[str, np.ndarray] | None) -> onnx.ModelProto:
        return quantize_graph(onnx.load(inputs.fp32), inputs.layer_count, calibration, inputs.words)[0]

    candidates = [Candidate("int8, one scale a token", "int8", lambda path: save_graph(ours(None), path))]
    if (fixed := inputs.calibration) is not None:
        candidates += [
            Candidate("int8, fixed scales", "int8", lambda path: save_graph(ours(fixed), path)),
            Candidate("int8, packed QKV", "int8", lambda path: save_graph(fuse_qkv(ours(fixed)), path)),
        ]
    if inputs.words is None:
        candidates += [
            Candidate("onnxruntime dynamic int8", "int8", lambda path: _quantize_dynamic(inputs, path)),
            Candidate("fp32", "fp32", lambda path: save_graph(onnx.load(inputs.fp32), path)),
            Candidate("fp32, fused", "fp32", lambda path: _fuse_operators(inputs, path)),
        ]
        if inputs.encoded is not None:
            candidates.append(Candidate("onnxruntime static QDQ", "int8", lambda path: _quantize_static(inputs, path)))
    return candidates


def fuse_qkv(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fuse the products of query, key and value into one, with joined integers and scales, and split its output."""
    editor = GraphEditor(model)
    kind = "MatMulIntegerToFloat"
    fused: set[str] = set()
    for node in editor.source_nodes:
        is_product = node.op_type == kind
        products = [reader for reader in editor.readers[node.input[0]] if reader.op_type == kind] if is_product else []
        if len(products) < 2:
            editor.nodes.append(node)
        elif node.input[0] not in fused:
            fused.add(node.input[0])
            inputs = list(node.input)
            for position, axis in ((1, 1), (3, 0), (6, 0)):  # weights, their scales, bias
                if position < len(inputs):
                    joined = np.concatenate([editor.array(product.input[position]) for product in products], axis=axis)
                    inputs[position] = editor.constant(f"{node.name}_packed_{position}", joined)
            widths = [editor.array(product.input[1]).shape[1] for product in products]
            whole = editor.add(kind, inputs, f"{node.output[0]}_packed")
            split = editor.constant(f"split_{'_'.join(map(str, widths))}", np.array(widths, dtype=np.int64))
            outputs = [product.output[0] for product in products]
            editor.nodes.append(helper.make_node("Split", [whole, split], outputs, name=f"{whole}_split", axis=-1))
    return editor.build(OPSET, IR_VERSION)


def _quantize_dynamic(inputs: TuningInputs, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_libraries():
        quantize_dynamic(inputs.fp32, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _quantize_static(inputs: TuningInputs, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    encoded, names = inputs.encoded, {value.name for value in onnx.load(inputs.fp32).graph.input}
    assert encoded is not None
    batches = (encoded.batch([int(row)]) for row in inputs.rows[:CALIBRATION_TEXTS])
    feeds = iter([{name: values for name, values in batch.items() if name in names} for batch in batches])

    class Texts(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    with quiet_libraries():
        quantize_static(
            inputs.fp32, path, Texts(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip


def _fuse_operators(inputs: TuningInputs, path: Path) -> None:
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # it takes int32 ids; the toolkit's graphs take int64
    with quiet_libraries():
        fused = optimizer.optimize_model(
            str(inputs.fp32), model_type="bert", num_heads=inputs.heads, hidden_size=inputs.hidden,
            optimization_options=options, opt_level=0, use_gpu=False,
        )  # fmt: skip
    domains = {opset.domain for opset in fused.model.opset_import}
    if "com.microsoft" not in domains:  # of the operators that the optimizer adds
        fused.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    save_graph(fused.model, path)


def heads_and_hidden(config: Any) -> tuple[int, int]:
    """Read heads and hidden size from a configuration; families name them differently."""
    heads = next(getattr(config, name) for name in ("num_attention_heads", "n_heads") if hasattr(config, name))
    hidden = next(getattr(config, name) for name in ("hidden_size", "dim") if hasattr(config, name))
    return int(heads), int(hidden)
