"""Is the int8 export as fast as other runtimes, on this CPU and with the same student?

    python -m benchmarks.export.speed STUDENT_DIR [--int8 DIR] [--data DIR] [--threads 1 2] [--rounds 10]

Six runtimes of one student: our int8 and fp32 ONNX, onnxruntime's own dynamic int8, CTranslate2 int8, OpenVINO fp32
and int8. Each lives in a process of its own, which times some runs of a cell when it is asked to; one is asked at a
time, in rounds that go forwards and backwards in turn, after a pause in which the last one's threads fall asleep. All
processes are started anew `--processes` times. A ratio is the median over rounds of paired medians, with its bootstrap
interval. Before it is timed, each runtime's answers are held against PyTorch's on dev rows. Then, for our own graph:
time by operator, and what the arithmetic alone would take on this CPU. Writes benchmarks/results/export_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.export.profile import profile
from benchmarks.paths import RESULTS
from toolkit.bundle.format import open_bundle
from toolkit.console import echo, show_table
from toolkit.data.datasets import load_split
from toolkit.data.tokenization import Batch, TextEncoder
from toolkit.inference.runtimes import OnnxRuntime, Runtime, TorchRuntime
from toolkit.measurement.environment import BackgroundLoad, environment
from toolkit.measurement.statistics import paired_ratio

REPORT = RESULTS / "export_speed.json"
OURS, FP32 = "our int8", "our fp32"
NAMES = (OURS, FP32, "onnxruntime dynamic int8", "CTranslate2 int8", "OpenVINO fp32", "OpenVINO int8")
SHAPES = ("1x32", "1x128", "16x64")  # texts x tokens
REAL, CHECKED, CALIBRATION = 64, 256, 128  # dev texts timed, compared, and given to OpenVINO to calibrate on
ASKED_MS = 100.0  # of runs at each asking
PAUSE_S = 0.3  # OpenMP's threads spin for 0.2 s after their last work
SHORT_PAUSE_S = 0.02  # with one thread there are none


def write_models(student: Path, int8: Path | None, folder: Path) -> None:
    """fp32.onnx, int8.onnx and dynamic.onnx of a PyTorch bundle; int8 is that of an exported bundle where given."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    from export.int8.quantize import quantize_graph
    from export.onnx_export import count_layers, export_fp32, load_classifier, save_graph
    from toolkit.console import quiet_libraries

    model = load_classifier(student)
    export_fp32(model, folder / "fp32.onnx")
    if int8 is None:
        save_graph(quantize_graph(onnx.load(folder / "fp32.onnx"), count_layers(model))[0], folder / "int8.onnx")
    else:
        shutil.copyfile(open_bundle(int8).weights, folder / "int8.onnx")
    with quiet_libraries():
        quantize_dynamic(folder / "fp32.onnx", folder / "dynamic.onnx")


def open_runtime(name: str, student: Path, folder: Path, threads: int) -> Runtime:
    """One of NAMES over the files in `folder`."""
    from toolkit.bench.other_runtimes import CTranslate2Runtime, OpenVinoRuntime

    if name == "CTranslate2 int8":
        return CTranslate2Runtime(student, precision="int8", threads=threads)
    if name.startswith("OpenVINO"):
        precision = name.split()[-1]
        calibration = [batch for [batch] in cell_batches(student, folder)["calibration"]] if precision == "int8" else []
        return OpenVinoRuntime(folder / "fp32.onnx", precision=precision, threads=threads, calibration=calibration)
    file = {OURS: "int8.onnx", FP32: "fp32.onnx", "onnxruntime dynamic int8": "dynamic.onnx"}[name]
    return OnnxRuntime(folder / file, threads=threads)


def cell_batches(student: Path, folder: Path) -> dict[str, Any]:
    """What is run, by cell: a list of batches each. Real lengths come one text at a time, as requests do."""
    bundle = open_bundle(student)
    inputs = json.loads((folder / "inputs.json").read_text())
    encoded = TextEncoder(bundle.path, bundle.max_length).encode(inputs["texts"], inputs["pairs"])
    random, cells = np.random.default_rng(0), {}
    for shape in inputs["shapes"]:
        ids = random.integers(0, bundle.config["vocab_size"], [int(part) for part in shape.split("x")])
        cells[shape] = [{"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}]
    rows = np.random.default_rng(1).permutation(len(encoded))
    cells["real lengths"] = [encoded.batch([row]) for row in rows[:REAL]]
    cells["calibration"] = [[encoded.batch([row])] for row in rows[:CALIBRATION]]
    cells["together"] = [encoded.batch(range(min(CHECKED, len(encoded))))]
    cells["alone"] = [encoded.batch([row]) for row in range(min(CHECKED, len(encoded)))]
    return cells


def worker(name: str, student: Path, folder: Path, threads: int) -> None:
    """Answer requests, a line of JSON each: {"time": cell, "runs": k} in ms a run, {"logits": cell} as rows."""
    runtime, cells = open_runtime(name, student, folder, threads), cell_batches(student, folder)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not answer for us
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "logits" in asked:
            found: Any = np.concatenate([runtime.run(one) for one in cells[asked["logits"]]]).tolist()
        else:
            found = timed(runtime, cells[asked["time"]], asked["runs"])
        print(json.dumps(found), file=out, flush=True)


def timed(runtime: Runtime, batches: list[Batch], runs: int) -> float:
    """Median ms of a run over all batches, divided by their number, after one run without the clock."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter_ns()
        for batch in batches:
            runtime.run(batch)
        times.append((time.perf_counter_ns() - start) / 1e6 / len(batches))
    return float(np.median(times[1:]))


class Worker:
    """The other end of `worker`."""

    def __init__(self, name: str, student: Path, folder: Path, threads: int) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.export.speed",
            "--worker",
            name,
            str(student),
            str(folder),
            str(threads),
        ]
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, stderr=subprocess.DEVNULL
        )
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start: {' '.join(command)}")
        self.pause_s = PAUSE_S if threads > 1 else SHORT_PAUSE_S
        self.runs: dict[str, int] = {}

    def ask(self, **request: Any) -> Any:
        """The answer to one request."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def time(self, cell: str, batches: int) -> float:
        """Median ms a batch, from as many runs as ASKED_MS holds."""
        if cell not in self.runs:
            self.runs[cell] = max(3, int(ASKED_MS / batches / self.ask(time=cell, runs=3)))
            time.sleep(self.pause_s)
        found = float(self.ask(time=cell, runs=self.runs[cell]))
        time.sleep(self.pause_s)
        return found

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def answers(workers: dict[str, Worker], wanted: np.ndarray) -> dict[str, Any]:
    """How far each runtime's logits are from PyTorch's, and from themselves when a text shares its batch."""
    told = {}
    for name, one in workers.items():
        alone, together = (np.array(one.ask(logits=cell)) for cell in ("alone", "together"))
        told[name] = {
            "error": float(np.sqrt(np.mean((alone - wanted) ** 2) / np.mean(wanted**2))),
            "largest_difference": float(np.abs(alone - wanted).max()),
            "label_agreement": float((alone.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
            "batch_difference": float(np.abs(alone - together).max()),
        }
    return told


def measure(student: Path, folder: Path, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All times at one number of threads: {cell: {name: [ms, one a round]}}, and what each runtime answers."""
    batches = cell_batches(student, folder)
    cells = {cell: len(batches[cell]) for cell in (*arguments.shapes, "real lengths")}
    times: dict[str, dict[str, list[float]]] = {cell: defaultdict(list) for cell in cells}
    reference = TorchRuntime.load(student)
    wanted = np.concatenate([reference.run(batch) for batch in batches["alone"]])
    told: dict[str, Any] = {}
    for process in range(arguments.processes):
        workers = {name: Worker(name, student, folder, threads) for name in NAMES}
        told = told or answers(workers, wanted)
        for cell, count in cells.items():
            for turn in range(arguments.rounds):
                for name in NAMES[:: 1 if turn % 2 == 0 else -1]:
                    times[cell][name].append(workers[name].time(cell, count))
            echo(f"{threads} threads, process {process + 1}/{arguments.processes}, {cell}: {medians(times[cell])}")
        for one in workers.values():
            one.close()
    return {"cells": {cell: compared(found) for cell, found in times.items()}, "answers": told}


def medians(times: dict[str, list[float]]) -> str:
    """For a line on the terminal."""
    return ", ".join(f"{name} {np.median(found):.2f} ms" for name, found in times.items())


def compared(times: dict[str, list[float]]) -> dict[str, Any]:
    """Each runtime's median, and how many times faster than it our int8 is, with the interval."""
    row: dict[str, Any] = {}
    for name, found in times.items():
        ratio = paired_ratio(found, times[OURS])
        row[name] = {
            "median_ms": float(np.median(found)), "ours_is_faster": ratio.value, "low": ratio.low, "high": ratio.high,
            "samples_ms": found,
        }  # fmt: skip
    return row


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path, nargs="?", help="a PyTorch bundle")
    parser.add_argument("--int8", type=Path, help="what toolkit export made of it [default: made here]")
    parser.add_argument("--data", help="folder with the dev file, for a task of your own")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shapes", nargs="*", default=SHAPES, help="TEXTSxTOKENS each")
    parser.add_argument("--processes", type=int, default=3, help="times that all processes are started")
    parser.add_argument("--rounds", type=int, default=10, help="of each cell with each set of processes")
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, student, folder, threads = arguments.worker
        worker(name, Path(student), Path(folder), int(threads))
        return
    bundle, others = open_bundle(arguments.student), BackgroundLoad()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_models(bundle.path, arguments.int8, folder)
        dev = load_split(bundle.task, "dev", arguments.data)
        inputs = {"texts": dev.texts, "pairs": dev.pairs, "shapes": arguments.shapes}
        (folder / "inputs.json").write_text(json.dumps(inputs))
        found = {str(n): measure(bundle.path, folder, n, arguments) for n in arguments.threads}
        inside = profile(folder, cell_batches(bundle.path, folder), arguments.shapes)
    report = {
        "student": str(arguments.student), "digest": bundle.digest, "int8": str(arguments.int8 or "made here"),
        "task": bundle.task.name, "threads": found, "profile": inside, "environment": environment(),
        "other_programs_share": others.share(),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    """The tables that the report holds."""
    for threads, found in report["threads"].items():
        rows = []
        for name in NAMES:
            told = (row[name] for row in found["cells"].values())
            rows.append((name, *(f"{one['median_ms']:.2f} ({one['ours_is_faster']:.2f}x)" for one in told)))
        title = f"{threads} threads: ms (how many times faster our int8 is)"
        show_table(title, ("runtime", *found["cells"]), rows)
    columns = ("runtime", "error, share of the logits' size", "label agreement, %", "difference by batch")
    first = next(iter(report["threads"].values()))["answers"]
    rows = [
        (name, f"{one['error']:.2g}", f"{100 * one['label_agreement']:.1f}", f"{one['batch_difference']:.2g}")
        for name, one in first.items()
    ]
    show_table(f"answers on {CHECKED} dev texts, against PyTorch", columns, rows)
    for cell, one in report["profile"]["cells"].items():
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(one["operator_share"].items())[:8])
        limits = f"{one['int8_products_ms']:.2f} ms alone, {one['arithmetic_limit_ms']:.2f} ms at this CPU's best rate"
        echo(f"{cell}: {one['ms']:.2f} ms; its integer products take {limits}; {shares}")


if __name__ == "__main__":
    main()
