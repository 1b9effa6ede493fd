"""The speed of the int8 export against other runtimes, on this CPU and with the same student.

    python -m benchmarks.export.speed STUDENT_DIR [--int8 DIR] [--data DIR] [--threads 1 2] [--rounds 10]

Six runtimes of one student: our int8 and fp32 ONNX, onnxruntime's own dynamic int8, CTranslate2 int8, OpenVINO fp32
and int8. Each has a process of its own, which times runs of a cell on request. Requests go to a process at a time, in
rounds that run forwards and backwards in turn, after a pause in which the last process's threads fall asleep. All
processes are started anew `--processes` times. A ratio is the median over rounds of paired medians, with its bootstrap
interval. Each runtime's answers are first compared with PyTorch's on dev rows. Our own graph is then profiled: time by
operator, and the time of the arithmetic alone on this CPU. Writes benchmarks/results/export_speed.json.
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
from toolkit.console import echo, quiet_libraries, show_table
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
REQUEST_MS = 100.0  # of runs for each request
PAUSE_S = 0.3  # OpenMP's threads spin for 0.2 s after their last work
SHORT_PAUSE_S = 0.02  # with one thread, where none spins


def write_models(student: Path, int8: Path | None, folder: Path) -> None:
    """Write fp32.onnx, int8.onnx and dynamic.onnx of a PyTorch bundle; int8.onnx is that of bundle `int8`, if any."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    from export.int8.quantize import quantize_graph
    from export.onnx_export import count_layers, export_fp32, load_classifier, save_graph

    model = load_classifier(student)
    export_fp32(model, folder / "fp32.onnx")
    if int8 is None:
        save_graph(quantize_graph(onnx.load(folder / "fp32.onnx"), count_layers(model))[0], folder / "int8.onnx")
    else:
        shutil.copyfile(open_bundle(int8).weights, folder / "int8.onnx")
    with quiet_libraries():
        quantize_dynamic(folder / "fp32.onnx", folder / "dynamic.onnx")


def open_runtime(name: str, student: Path, folder: Path, threads: int) -> Runtime:
    """Open one of NAMES with the files in `folder`."""
    from toolkit.benchmarking.other_runtimes import CTranslate2Runtime, OpenVinoRuntime

    if name == "CTranslate2 int8":
        return CTranslate2Runtime(student, precision="int8", threads=threads)
    if name.startswith("OpenVINO"):
        precision = name.split()[-1]
        calibration = [batch for [batch] in cell_batches(student, folder)["calibration"]] if precision == "int8" else []
        return OpenVinoRuntime(folder / "fp32.onnx", precision=precision, threads=threads, calibration=calibration)
    file = {OURS: "int8.onnx", FP32: "fp32.onnx", "onnxruntime dynamic int8": "dynamic.onnx"}[name]
    return OnnxRuntime(folder / file, threads=threads)


def cell_batches(student: Path, folder: Path) -> dict[str, Any]:
    """Build the batches of each cell. Real lengths come one text at a time, as requests do."""
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
    os.dup2(2, 1)  # what libraries print is no answer
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "logits" in request:
            answer: Any = np.concatenate([runtime.run(batch) for batch in cells[request["logits"]]]).tolist()
        else:
            answer = time_runs(runtime, cells[request["time"]], request["runs"])
        print(json.dumps(answer), file=out, flush=True)


def time_runs(runtime: Runtime, batches: list[Batch], runs: int) -> float:
    """Return the median ms a batch of runs over all batches, after a warm-up run."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter_ns()
        for batch in batches:
            runtime.run(batch)
        times.append((time.perf_counter_ns() - start) / 1e6 / len(batches))
    return float(np.median(times[1:]))


class Worker:
    """The process of a `worker`, and requests to it."""

    def __init__(self, name: str, student: Path, folder: Path, threads: int) -> None:
        arguments = [name, str(student), str(folder), str(threads)]
        command = [sys.executable, "-m", "benchmarks.export.speed", "--worker", *arguments]
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, stderr=subprocess.DEVNULL
        )
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start: {' '.join(command)}")
        self.pause_s = PAUSE_S if threads > 1 else SHORT_PAUSE_S
        self.runs: dict[str, int] = {}

    def ask(self, **request: Any) -> Any:
        """Send a request and return its answer."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def time(self, cell: str, batches: int) -> float:
        """Return the median ms a batch of as many runs as fit in REQUEST_MS."""
        if cell not in self.runs:
            self.runs[cell] = max(3, int(REQUEST_MS / batches / self.ask(time=cell, runs=3)))
            time.sleep(self.pause_s)
        ms = float(self.ask(time=cell, runs=self.runs[cell]))
        time.sleep(self.pause_s)
        return ms

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def compare_answers(workers: dict[str, Worker], reference: np.ndarray) -> dict[str, Any]:
    """Compare each runtime's logits [n, C] with PyTorch's, and those of texts alone with those in one batch."""
    answers = {}
    for name, runtime in workers.items():
        alone, together = (np.array(runtime.ask(logits=cell)) for cell in ("alone", "together"))
        answers[name] = {
            "error": float(np.sqrt(np.mean((alone - reference) ** 2) / np.mean(reference**2))),
            "largest_difference": float(np.abs(alone - reference).max()),
            "label_agreement": float((alone.argmax(axis=1) == reference.argmax(axis=1)).mean()),
            "batch_difference": float(np.abs(alone - together).max()),
        }
    return answers


def measure(student: Path, folder: Path, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the speed of all runtimes in all cells with one number of threads, and compare their answers."""
    batches = cell_batches(student, folder)
    cells = {cell: len(batches[cell]) for cell in (*arguments.shapes, "real lengths")}
    times: dict[str, dict[str, list[float]]] = {cell: defaultdict(list) for cell in cells}
    reference = TorchRuntime.load(student)
    logits = np.concatenate([reference.run(batch) for batch in batches["alone"]])
    answers: dict[str, Any] = {}
    for process in range(arguments.processes):
        workers = {name: Worker(name, student, folder, threads) for name in NAMES}
        answers = answers or compare_answers(workers, logits)
        for cell, count in cells.items():
            for turn in range(arguments.rounds):
                for name in NAMES[:: 1 if turn % 2 == 0 else -1]:
                    times[cell][name].append(workers[name].time(cell, count))
            echo(f"{threads} threads, process {process + 1}/{arguments.processes}, {cell}: {medians(times[cell])}")
        for runtime in workers.values():
            runtime.close()
    return {"cells": {cell: compare_times(by_name) for cell, by_name in times.items()}, "answers": answers}


def medians(times: dict[str, list[float]]) -> str:
    """Format the median of each runtime for a line on the terminal."""
    return ", ".join(f"{name} {np.median(samples):.2f} ms" for name, samples in times.items())


def compare_times(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return each runtime's median ms, and how many times faster than it our int8 is, with the interval."""
    row: dict[str, Any] = {}
    for name, samples in times.items():
        ratio = paired_ratio(samples, times[OURS])
        row[name] = {
            "median_ms": float(np.median(samples)), "ours_is_faster": ratio.value, "low": ratio.low, "high": ratio.high,
            "samples_ms": samples,
        }  # fmt: skip
    return row


def main() -> None:
    """Measure all runtimes, write the report and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path, nargs="?", help="a PyTorch bundle")
    parser.add_argument("--int8", type=Path, help="the bundle that toolkit export wrote [default: exported here]")
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
    bundle, background = open_bundle(arguments.student), BackgroundLoad()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_models(bundle.path, arguments.int8, folder)
        dev = load_split(bundle.task, "dev", arguments.data)
        inputs = {"texts": dev.texts, "pairs": dev.pairs, "shapes": arguments.shapes}
        (folder / "inputs.json").write_text(json.dumps(inputs))
        measured = {str(n): measure(bundle.path, folder, n, arguments) for n in arguments.threads}
        operators = profile(folder, cell_batches(bundle.path, folder), arguments.shapes)
    report = {
        "student": str(arguments.student), "digest": bundle.digest, "int8": str(arguments.int8 or "made here"),
        "task": bundle.task.name, "threads": measured, "profile": operators, "environment": environment(),
        "other_programs_share": background.fraction(),
    }  # fmt: skip
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    """Print the tables of a report."""
    for threads, measured in report["threads"].items():
        rows = []
        for name in NAMES:
            times = (cell[name] for cell in measured["cells"].values())
            rows.append((name, *(f"{time['median_ms']:.2f} ({time['ours_is_faster']:.2f}x)" for time in times)))
        title = f"{threads} threads: ms (how many times faster our int8 is)"
        show_table(title, ("runtime", *measured["cells"]), rows)
    columns = ("runtime", "error, share of the logits' size", "label agreement, %", "difference by batch")
    answers = next(iter(report["threads"].values()))["answers"]
    rows = [
        (name, f"{row['error']:.2g}", f"{100 * row['label_agreement']:.1f}", f"{row['batch_difference']:.2g}")
        for name, row in answers.items()
    ]
    show_table(f"answers on {CHECKED} dev texts, against PyTorch", columns, rows)
    for cell, row in report["profile"]["cells"].items():
        fractions = list(row["operator_share"].items())[:8]
        operators = ", ".join(f"{name} {100 * fraction:.0f} %" for name, fraction in fractions)
        limits = f"{row['int8_products_ms']:.2f} ms alone, {row['arithmetic_limit_ms']:.2f} ms at this CPU's best rate"
        echo(f"{cell}: {row['ms']:.2f} ms; its integer products take {limits}; {operators}")


if __name__ == "__main__":
    main()
