"""The dependence of a text's logits on its batch, its position in it, and padding: 1,000 dev texts, and a control.

    python -m benchmarks.export.invariance --student runs/demo/student

Each text is run alone, then in random batches of 2 to 32 in random order, padded to the longest of the batch or to a
random greater length. The result is the largest |logit difference| from alone. The control, onnxruntime's
quantize_dynamic with its defaults, fails the same check. Writes benchmarks/results/export_invariance.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import RESULTS
from export.onnx_export import export_fp32, load_classifier
from export.pipeline import run_export
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import ExportConfig
from toolkit.console import quiet_libraries, show_table
from toolkit.data.datasets import load_split
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.inference.runtimes import OnnxRuntime

REPORT = RESULTS / "export_invariance.json"
TEXTS, PASSES, LIMIT = 1000, 3, 1e-5


def largest_difference(runtime: OnnxRuntime, encoded: EncodedTexts, longest: int, seed: int) -> dict[str, Any]:
    """Run texts alone and in random batches, and summarize their differences."""
    random = np.random.default_rng(seed)
    alone = np.concatenate([runtime.run(encoded.batch([row])) for row in range(len(encoded))])
    differences = []
    for _ in range(PASSES):
        order, start = random.permutation(len(encoded)), 0
        while start < len(order):
            rows = order[start : start + int(random.integers(2, 33))]
            start += len(rows)
            width = int(encoded.lengths[rows].max())
            if random.random() < 0.5:
                width = int(random.integers(width, longest + 1))
            differences.append(np.abs(runtime.run(encoded.batch(rows, width)) - alone[rows]).max(axis=1))
    largest = np.concatenate(differences)
    return {
        "texts": len(encoded), "passes": PASSES, "max_difference": float(largest.max()),
        "changed": float((largest > 0).mean()), "over_limit": float((largest > LIMIT).mean()), "limit": LIMIT,
    }  # fmt: skip


def graphs(student: Bundle, data: str | None, scratch: Path) -> dict[str, Path]:
    """Write the graphs of `toolkit export`, with 8-bit and 4-bit embeddings, and the control."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    paths = {}
    for name, bits in (("int8", 8), ("int8, 4-bit embeddings", 4)):
        config = ExportConfig(
            str(student.path), str(scratch / str(bits)), data=data, max_drop=100.0, embedding_bits=bits
        )
        paths[name] = run_export(config).weights
    export_fp32(load_classifier(student.path), scratch / "fp32.onnx")
    paths["control: onnxruntime quantize_dynamic"] = scratch / "stock.onnx"
    with quiet_libraries():
        quantize_dynamic(scratch / "fp32.onnx", scratch / "stock.onnx", weight_type=QuantType.QInt8)
    return paths


def main() -> None:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--data", help="folder with the task's files [default: the embedded data]")
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=REPORT)
    arguments = parser.parse_args()
    student = open_bundle(arguments.student)
    dev = load_split(student.task, "dev", arguments.data).subsample(arguments.texts, arguments.seed)
    encoded = TextEncoder(student.path, student.max_length).encode(dev.texts, dev.pairs)
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in graphs(student, arguments.data, Path(scratch)).items():
            runtime = OnnxRuntime(path, threads=1)
            results[name] = largest_difference(runtime, encoded, student.max_length, arguments.seed)
    arguments.results.write_text(json.dumps({"student": student.digest, "graphs": results}, indent=2) + "\n")
    rows = [
        (name, str(row["texts"]), f"{row['max_difference']:.3g}", f"{100 * row['changed']:.2f} %",
         "yes" if row["max_difference"] <= LIMIT else "NO")
        for name, row in results.items()
    ]  # fmt: skip
    columns = ("graph", "texts", "largest difference", "texts that changed", f"within {LIMIT:g}")
    show_table(f"alone against in a batch, {PASSES} passes", columns, rows)


if __name__ == "__main__":
    main()
