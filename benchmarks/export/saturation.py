"""Saturation of int8 products on a CPU with AVX2 but no VNNI, for onnxruntime's default quantizer and ours.

    python -m benchmarks.export.saturation [STUDENT_DIR [--int8 DIR]] [--texts 64]

On such a CPU onnxruntime multiplies uint8 by int8 with VPMADDUBSW, which adds the products of two neighbours in a
saturating int16. A bag-of-words classifier built to saturate is run by onnx's reference evaluator, whose integer
products are replaced by those of VPMADDUBSW, and, where qemu-x86_64 is installed (Debian: qemu-user), by onnxruntime on
an emulated Haswell. With a student, its linear layers are run over real texts too: how many pairs saturate, and how
many answers change. Writes benchmarks/results/export_saturation.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.paths import RESULTS
from export.int8.quantize import quantize_graph
from export.onnx_export import LayerCount, count_layers, export_fp32, load_classifier, save_graph
from toolkit.bundle.format import open_bundle
from toolkit.console import echo, quiet_libraries, show_table

REPORT = RESULTS / "export_saturation.json"
QUANTIZERS = ("default", "ours")
INT16 = (-32_768, 32_767)
WIDTH, WORDS = 32, 20
EMULATED = ("qemu-x86_64", "-cpu", "Haswell")


def saturating_classifier() -> onnx.ModelProto:
    """Build a classifier of words: y = mean(E[ids] W), logits = y H; E [2 * WORDS, WIDTH], W [WIDTH, 2], H [2, 2].

    The first WORDS words are full rows of about 1, the others have every second place empty. Column 0 of W is all
    ones, so neighbours add up: 2 * 255 * 127 = 64,770 is cut to 32,767 and y_0 of a full row halves. Column 1 has
    every second weight 0: 255 * 127 fits. H gives class 1 1.4 times its sum, so that full rows are class 0 by
    1 : 0.7, and, saturated, class 1 by 0.51 : 0.7.
    """
    table = np.random.default_rng(0).uniform(0.95, 1.0, (2 * WORDS, WIDTH)).astype(np.float32)
    table[WORDS:, 1::2] = 0
    weight = np.ones((WIDTH, 2), dtype=np.float32)
    weight[1::2, 1] = 0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="/embed/Gather"),
        helper.make_node("MatMul", ["x", "weight"], ["y"], name="/linear/MatMul"),
        helper.make_node("ReduceMean", ["y", "axis"], ["mean"], name="/mean/ReduceMean", keepdims=0),
        helper.make_node("MatMul", ["mean", "head"], ["logits"], name="/head/MatMul"),
    ]
    constants = {
        "table": table, "weight": weight, "axis": np.array([1]), "head": np.diag([1, 1.4]).astype(np.float32),
    }  # fmt: skip
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "saturating", [ids], [out], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def saturating_texts(count: int) -> np.ndarray:
    """Draw word ids [count, 6]: texts of full rows and texts of half-empty rows in turn."""
    ids = np.random.default_rng(1).integers(0, WORDS, (count, 6))
    ids[1::2] += WORDS
    return ids


def write_default(fp32: Path, out: Path) -> None:
    """Write onnxruntime's dynamic quantization with its defaults: int8 weights over their full range."""
    from onnxruntime.quantization import quantize_dynamic

    with quiet_libraries():
        quantize_dynamic(fp32, out)


def avx2_product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Multiply uint8 [..., K] by int8 [K, N] as VPMADDUBSW and VPADDD do: pairs of products saturate in int16."""
    return pair_sums(x, weight).clip(*INT16).sum(axis=-2)


def pair_sums(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sums of two neighbouring products before they saturate, [..., ceil(K / 2), N]."""
    if weight.shape[0] % 2:
        x, weight = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]), np.pad(weight, [(0, 1), (0, 0)])
    left, right = (x[..., i::2, None].astype(np.int32) * weight[i::2].astype(np.int32) for i in (0, 1))
    return left + right


class FusedMatMul(OpRun):
    """onnxruntime's operator, as far as our graphs use it, with batch axes behind the first one."""

    op_domain = "com.microsoft"

    def _run(self, a: Any, b: Any, alpha: float | None = None, **moves: int) -> Any:
        a, b = (np.moveaxis(x, 0, -2) if moves.get(f"transBatch{name}") else x for x, name in ((a, "A"), (b, "B")))
        product = a @ (np.swapaxes(b, -1, -2) if moves.get("transB") else b)
        return ((product * np.float32(1.0 if alpha is None else alpha)).astype(np.float32),)


class Avx2:
    """onnx's reference evaluator with the integer products of AVX2, and counts of the pairs that saturate."""

    def __init__(self, path: Path) -> None:
        self.pairs = self.saturated = self.largest = 0
        counts = self

        def product(x: np.ndarray, weight: np.ndarray, x_zero: Any, weight_zero: Any = None) -> np.ndarray:
            assert weight_zero is None or not np.any(weight_zero), "symmetric weights"
            rows = x.reshape(-1, x.shape[-1])
            products = []
            for row in rows:  # [K] at a time: all pairs of all rows would not fit
                sums = pair_sums(row, weight)
                counts.pairs += sums.size
                counts.saturated += int(((sums < INT16[0]) | (sums > INT16[1])).sum())
                counts.largest = max(counts.largest, int(np.abs(sums).max()))
                products.append(sums.clip(*INT16).sum(axis=-2))
            corrected = np.array(products) - int(x_zero or 0) * weight.astype(np.int32).sum(axis=0)
            return corrected.reshape(*x.shape[:-1], weight.shape[1]).astype(np.int32)

        class MatMulInteger(OpRun):
            def _run(self, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
                return (product(a, b, a_zero, b_zero),)

        class MatMulIntegerToFloat(OpRun):
            op_domain = "com.microsoft"

            def _run(self, a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero: Any, *more: Any) -> Any:
                b_zero, bias = (*more, None, None)[:2]
                scaled = product(a, b, a_zero, b_zero).astype(np.float32) * (a_scale * b_scale)
                return (scaled if bias is None else scaled + bias,)

        self.evaluator = ReferenceEvaluator(onnx.load(path), new_ops=[MatMulInteger, MatMulIntegerToFloat, FusedMatMul])

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Return the logits of a batch."""
        names = set(self.evaluator.input_names)
        return np.asarray(self.evaluator.run(["logits"], {name: feed[name] for name in names})[0])


def runtime_logits(path: Path, feeds: list[dict[str, np.ndarray]], command: tuple[str, ...] = ()) -> np.ndarray:
    """Run onnxruntime in a process of its own, on this CPU or, by `command`, on an emulated one; return the logits."""
    with tempfile.TemporaryDirectory() as scratch:
        for i, feed in enumerate(feeds):
            np.savez(Path(scratch) / f"{i:04}.npz", **feed)
        child = [*command, sys.executable, "-m", "benchmarks.export.saturation", "--child", str(path), scratch]
        subprocess.run(child, check=True, capture_output=True)
        return np.load(Path(scratch) / "logits.npy")


def child(path: str, folder: str) -> None:
    """Run the process of `runtime_logits`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    logits = []
    for file in sorted(Path(folder).glob("*.npz")):
        with np.load(file) as feed:
            logits.append(session.run(["logits"], {name: feed[name] for name in names})[0])
    np.save(Path(folder) / "logits.npy", np.concatenate(logits))


def examine(folder: Path, feeds: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Compare default.onnx and ours.onnx with fp32.onnx: on this CPU, with AVX2's products, and on a Haswell."""
    plain = runtime_logits(folder / "fp32.onnx", feeds)
    report: dict[str, Any] = {"texts": len(plain)}
    for name in QUANTIZERS:
        path, avx2 = folder / f"{name}.onnx", Avx2(folder / f"{name}.onnx")
        logits = {"here": runtime_logits(path, feeds), "avx2": np.concatenate([avx2.run(feed) for feed in feeds])}
        if shutil.which(EMULATED[0]):
            logits["haswell"] = runtime_logits(path, feeds, EMULATED)
        report[name] = {
            "pairs": avx2.pairs, "saturated_pairs": avx2.saturated, "largest_pair_sum": avx2.largest,
            "wrong_answers": {where: wrong_answers(answer, plain) for where, answer in logits.items()},
            "largest_difference": {where: float(np.abs(answer - plain).max()) for where, answer in logits.items()},
        }  # fmt: skip
    return report


def wrong_answers(logits: np.ndarray, plain: np.ndarray) -> int:
    """Count the texts with another label than that of fp32."""
    return int((logits.argmax(axis=1) != plain.argmax(axis=1)).sum())


def write_built(folder: Path) -> None:
    """Write the three graphs of the classifier that is built to saturate."""
    model = saturating_classifier()
    onnx.save(model, folder / "fp32.onnx")
    write_default(folder / "fp32.onnx", folder / "default.onnx")
    save_graph(quantize_graph(model, LayerCount(linear=2, embedding=1))[0], folder / "ours.onnx")


def write_student(student: Path, folder: Path, int8: Path | None = None) -> None:
    """Write the three graphs of a PyTorch bundle; ours is that of the exported bundle `int8`, if any."""
    model = load_classifier(student)
    export_fp32(model, folder / "fp32.onnx")
    write_default(folder / "fp32.onnx", folder / "default.onnx")
    if int8 is None:
        save_graph(quantize_graph(onnx.load(folder / "fp32.onnx"), count_layers(model))[0], folder / "ours.onnx")
    else:
        shutil.copyfile(open_bundle(int8).weights, folder / "ours.onnx")


def student_feeds(student: Path, data: str | None, count: int) -> list[dict[str, np.ndarray]]:
    """Encode the first dev texts of a bundle's task, each as a batch."""
    from toolkit.data.datasets import load_split
    from toolkit.data.tokenization import TextEncoder

    bundle = open_bundle(student)
    dev = load_split(bundle.task, "dev", data)
    pairs = None if dev.pairs is None else dev.pairs[:count]
    encoded = TextEncoder(bundle.path, bundle.max_length).encode(dev.texts[:count], pairs)
    return [encoded.batch([row]) for row in range(len(encoded))]


def main() -> None:
    """Compare the graphs, write the report and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path, nargs="?", help="a PyTorch bundle")
    parser.add_argument("--int8", type=Path, help="the bundle that toolkit export wrote [default: exported here]")
    parser.add_argument("--data", help="folder with the dev file, for a task of your own")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    report = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_built(Path(scratch))
        report["built to saturate"] = examine(Path(scratch), [{"input_ids": saturating_texts(arguments.texts)}])
    if arguments.student:
        with tempfile.TemporaryDirectory() as scratch:
            write_student(arguments.student, Path(scratch), arguments.int8)
            feeds = student_feeds(arguments.student, arguments.data, arguments.texts)
            report[str(arguments.student)] = examine(Path(scratch), feeds)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for model, graphs in report.items():
        rows = []
        for name in QUANTIZERS:
            graph = graphs[name]
            answers = ", ".join(f"{where} {count}" for where, count in graph["wrong_answers"].items())
            pairs = f"{graph['saturated_pairs']:,} of {graph['pairs']:,}"
            rows.append((name, f"{graph['largest_pair_sum']:,}", pairs, answers))
        columns = ("quantizer", "largest pair sum", "beyond int16", f"other answers than fp32, of {graphs['texts']}")
        show_table(model, columns, rows)
    if not shutil.which(EMULATED[0]):
        echo(f"{EMULATED[0]} is not installed: nothing was run on an emulated CPU")


if __name__ == "__main__":
    main()
