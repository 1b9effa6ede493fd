"""`toolkit score`: its rate beside the engine's own over texts at hand, and its peak memory by the number of rows.

python -m benchmarks.inference.scoring DIR [--rows 50000 200000] [--rounds 3] [--engine-rows 20000]

A round times the whole command over the most rows, with its start and the joining of its parts, and then the engine
alone, in this process: all texts tokenized, in batches of like length, on every CPU, as `toolkit bench` runs offline.
The aims: 95 % of the engine's rate, and a peak memory that differs by at most 5 % between the numbers of rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.load import save

VARIABLES = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def command_run(bundle: str, file: Path, out: Path) -> tuple[float, int]:
    """Run `toolkit score` in a process of its own; return its seconds and its peak memory in bytes."""
    command = [sys.executable, "-m", "toolkit", "score", bundle, "--input", str(file), "--out", str(out), "--overwrite"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **VARIABLES})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"toolkit score ended with {process.returncode}")
    return seconds, usage.ru_maxrss * 1024


def engine_rate(bundle: str, texts: Sequence[str]) -> float:
    """Return the engine's texts a second over texts in memory, on every CPU."""
    from toolkit.inference.predictor import open_predictor
    from toolkit.measurement.environment import cpu_quota

    predictor = open_predictor(bundle, threads=cpu_quota())
    predictor.predict(texts[:500])
    started = time.perf_counter()
    predictor.logits(predictor.encoder.encode(texts))
    return len(texts) / (time.perf_counter() - started)


def write_rows(path: Path, texts: Sequence[str], rows: int) -> Path:
    """Write a file of so many rows, the texts over and over."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{texts[i % len(texts)]}\n" for i in range(rows))
    return path


def summary(rounds: Sequence[dict[str, float]], peaks: dict[int, int]) -> dict[str, Any]:
    """Compute the two figures of the aims from the rounds' rates and the peaks of memory by the number of rows."""
    smallest, largest = peaks[min(peaks)], peaks[max(peaks)]
    return {
        "rate_ratio": round(median(row["score"] / row["engine"] for row in rounds), 3),
        "memory_ratio": round(largest / smallest, 3), "rounds": list(rounds),
        "peak_bytes": {str(rows): peak for rows, peak in peaks.items()},
    }  # fmt: skip


def main() -> None:
    """Print and store the rates of all rounds, the peaks of memory and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine-rows", type=int, default=20_000)
    arguments = parser.parse_args()
    from toolkit.data.datasets import load_split
    from toolkit.tasks import get_task

    texts = load_split(get_task("rotten-tomatoes"), "train").texts
    rounds, peaks = list[dict[str, float]](), dict[int, int]()
    with TemporaryDirectory() as folder:
        files = {rows: write_rows(Path(folder) / f"{rows}.txt", texts, rows) for rows in sorted(set(arguments.rows))}
        for rows, file in files.items():
            _, peaks[rows] = command_run(arguments.bundle, file, Path(folder) / "out.parquet")
            print(f"{rows:,} rows: {peaks[rows] / 1e6:.1f} MB", file=sys.stderr, flush=True)
        most = max(files)
        for _ in range(arguments.rounds):
            seconds, _ = command_run(arguments.bundle, files[most], Path(folder) / "out.parquet")
            engine = engine_rate(arguments.bundle, [texts[i % len(texts)] for i in range(arguments.engine_rows)])
            rounds.append({"score": most / seconds, "engine": engine})
            print(rounds[-1], file=sys.stderr, flush=True)
    save("score", {"bundle": arguments.bundle, "rows": sorted(files), **summary(rounds, peaks)})


if __name__ == "__main__":
    main()
