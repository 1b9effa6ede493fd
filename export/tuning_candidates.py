"""Ways to make one classifier fast on a CPU, each a graph to be judged and timed by `export.tuning`."""

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
BLOCK_SIZE = 32  # inputs that share a scale in MatMulNBits


@dataclass(frozen=True)
class TuningInputs:
    """What candidates are made of.

    Attributes:
        fp32: the float32 graph.
        count: layers that it has.
        calibration, words: as for `quantize_graph`.
        encoded, rows: calibration texts and the numbers of those to use.
        heads, hidden: of the model's attention.
    """

    fp32: Path
    count: LayerCount
    calibration: Mapping[str, np.ndarray] | None
    words: LowBitSettings | None
    encoded: EncodedTexts | None
    rows: np.ndarray
    heads: int
    hidden: int


@dataclass(frozen=True)
class Candidate:
    """A way to write the model: `build` writes it to a path; `precision` says which gates it has to pass."""

    name: str
    precision: str
    build: Callable[[Path], None]


def candidates(given: TuningInputs) -> list[Candidate]:
    """All ways there are; with 4-bit word embeddings, those that have them."""

    def ours(calibration: Mapping[str, np.ndarray] | None) -> onnx.ModelProto:
        return quantize_graph(onnx.load(given.fp32), given.count, calibration, given.words)[0]

    found = [Candidate("int8, one scale a token", "int8", lambda path: save_graph(ours(None), path))]
    if (fixed := given.calibration) is not None:
        found += [
            Candidate("int8, fixed scales", "int8", lambda path: save_graph(ours(fixed), path)),
            Candidate("int8, packed QKV", "int8", lambda path: save_graph(fuse_qkv(ours(fixed)), path)),
        ]
    if given.words is None:
        found += [
            Candidate("MatMulNBits, 8 bits", "int8", lambda path: save_graph(blockwise(onnx.load(given.fp32)), path)),
            Candidate("onnxruntime dynamic int8", "int8", lambda path: _dynamic(given, path)),
            Candidate("fp32", "fp32", lambda path: save_graph(onnx.load(given.fp32), path)),
            Candidate("fp32, fused", "fp32", lambda path: _fused(given, path)),
        ]
        if given.encoded is not None:
            found.append(Candidate("onnxruntime static QDQ", "int8", lambda path: _static(given, path)))
    return found


def fuse_qkv(model: onnx.ModelProto) -> onnx.ModelProto:
    """One product for query, key and value instead of three: their integers and scales side by side, then Split."""
    editor = GraphEditor(model)
    kind = "MatMulIntegerToFloat"
    done: set[str] = set()
    for node in editor.old:
        beside = [one for one in editor.readers[node.input[0]] if one.op_type == kind] if node.op_type == kind else []
        if len(beside) < 2:
            editor.nodes.append(node)
        elif node.input[0] not in done:
            done.add(node.input[0])
            inputs = list(node.input)
            for place, axis in ((1, 1), (3, 0), (6, 0)):
                if place < len(inputs):
                    joined = np.concatenate([editor.array(one.input[place]) for one in beside], axis=axis)
                    inputs[place] = editor.constant(f"{node.name}_packed_{place}", joined)
            widths = [editor.array(one.input[1]).shape[1] for one in beside]
            whole = editor.add(kind, inputs, f"{node.output[0]}_packed")
            split = editor.constant(f"split_{'_'.join(map(str, widths))}", np.array(widths, dtype=np.int64))
            outputs = [one.output[0] for one in beside]
            editor.nodes.append(helper.make_node("Split", [whole, split], outputs, name=f"{whole}_split", axis=-1))
    return editor.build(OPSET, IR_VERSION)


def blockwise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Linear layers as onnxruntime's MatMulNBits: 8-bit weights in blocks of 32 inputs, activations rounded inside."""
    editor = GraphEditor(model)
    for node in editor.old:
        if node.op_type != "MatMul" or not editor.is_matrix(node.input[1]):
            editor.nodes.append(node)
            continue
        weight = editor.array(node.input[1])
        inputs, outputs = weight.shape
        blocks = np.pad(weight.T, ((0, 0), (0, -inputs % BLOCK_SIZE))).reshape(outputs, -1, BLOCK_SIZE)
        scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 127, 1e-20).astype(np.float32)
        quantized = (np.rint(blocks / scale) + 128).astype(np.uint8)
        numbers = editor.constant(f"{node.name}_blocks", quantized)
        scales = editor.constant(f"{node.name}_scales", scale.reshape(-1))
        editor.add(
            "MatMulNBits", [node.input[0], numbers, scales], node.output[0],
            K=inputs, N=outputs, bits=8, block_size=BLOCK_SIZE, accuracy_level=4,
        )  # fmt: skip
    return editor.build(OPSET, IR_VERSION)


def _dynamic(given: TuningInputs, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_libraries():
        quantize_dynamic(given.fp32, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _static(given: TuningInputs, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    encoded, inputs = given.encoded, {one.name for one in onnx.load(given.fp32).graph.input}
    assert encoded is not None
    batches = (encoded.batch([int(row)]) for row in given.rows[:CALIBRATION_TEXTS])
    feeds = iter([{name: values for name, values in batch.items() if name in inputs} for batch in batches])

    class Texts(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    with quiet_libraries():
        quantize_static(
            given.fp32, path, Texts(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip


def _fused(given: TuningInputs, path: Path) -> None:
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # it wants int32 ids, which others do not send
    with quiet_libraries():
        found = optimizer.optimize_model(
            str(given.fp32), model_type="bert", num_heads=given.heads, hidden_size=given.hidden,
            optimization_options=options, opt_level=0, use_gpu=False,
        )  # fmt: skip
    opsets = {one.domain for one in found.model.opset_import}
    if "com.microsoft" not in opsets:  # whose operators it put in
        found.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    save_graph(found.model, path)


def shape_of(config: Any) -> tuple[int, int]:
    """Heads and hidden size by the names that the families give them."""
    heads = next(getattr(config, name) for name in ("num_attention_heads", "n_heads") if hasattr(config, name))
    hidden = next(getattr(config, name) for name in ("hidden_size", "dim") if hasattr(config, name))
    return int(heads), int(hidden)
