"""`toolkit score`: its rate beside the engine's own, its peak memory by the number of rows, and what kills leave.

python -m benchmarks.inference.scoring DIR [--rows 50000 200000] [--rounds 3] [--engine-rows 20000]

A round times the whole command over each number of rows, the most last, with its start and the joining of its parts,
and then the engine alone, in this process: texts in memory, tokenized and in batches of like length, on every CPU, as
`toolkit bench` runs offline. At last the command is killed at random moments, each time given again, and its output
compared to that of the rounds. The aims: 95 % of the engine's rate, a peak memory that differs by at most 5 % between
the numbers of rows, and the same bytes. At 2,000 texts a second all of it takes ten minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.attack import peak_bytes
from benchmarks.serving.load import save

VARIABLES = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
SENTENCES = 100_000  # of IMDb; more rows hold them again
KILLS = 3
TICK_S = 0.05  # between readings of the peak memory
EARLIEST, LATEST = 0.1, 0.3  # of a whole command's time, when a kill comes: all of them leave rows to score


def start(bundle: str, file: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start `toolkit score` in a process of its own."""
    command = [sys.executable, "-m", "toolkit", "score", bundle, "--input", str(file), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **VARIABLES})


def command_run(bundle: str, file: Path, out: Path) -> tuple[float, int]:
    """Run `toolkit score`; return its seconds and its peak memory in bytes."""
    started, process, peak = time.perf_counter(), start(bundle, file, out), 0
    while process.poll() is None:
        with suppress(IndexError):  # it has just ended
            peak = max(peak, peak_bytes(process.pid))  # Linux's ru_maxrss would include this process's own
        time.sleep(TICK_S)
    if process.returncode:
        raise SystemExit(f"toolkit score ended with {process.returncode}")
    return time.perf_counter() - started, peak


def killed_runs(bundle: str, file: Path, whole: Path, seconds: Sequence[float]) -> dict[str, Any]:
    """Kill `toolkit score` after each of `seconds`, let it end at last, and compare its output with the file `whole`.

    Returns:
        The seconds and the parts that were there of each kill, and whether the bytes are the same.
    """
    from toolkit.files import file_record

    out, kills = whole.with_stem("killed"), []
    for pause in seconds:
        process = start(bundle, file, out)
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            raise SystemExit(f"toolkit score ended with {process.returncode} before it was killed")
        kills.append({"seconds": round(pause, 1), "parts": len(list(Path(f"{out}.partial").glob("part-*.parquet")))})
    command_run(bundle, file, out)
    return {"kills": kills, "same_bytes": file_record(out) == file_record(whole)}


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
    """Print and store the rates of all rounds, the peaks of memory, their ratios, and what the kills left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine-rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    arguments = parser.parse_args()
    from toolkit.data import builtin
    from toolkit.measurement.environment import cpu_quota

    texts = builtin.imdb_sentences(SENTENCES, seed=7)
    rounds, peaks = list[dict[str, float]](), dict[int, int]()
    with TemporaryDirectory() as folder:
        files = {rows: write_rows(Path(folder) / f"{rows}.txt", texts, rows) for rows in sorted(set(arguments.rows))}
        for _ in range(arguments.rounds):
            for rows, file in files.items():
                out = Path(folder) / f"{rows}.parquet"
                out.unlink(missing_ok=True)
                seconds, peak = command_run(arguments.bundle, file, out)
                peaks[rows] = max(peak, peaks.get(rows, 0))
                print(f"{rows:,} rows: {seconds:.1f} s, {peak / 1e6:.1f} MB", file=sys.stderr, flush=True)
            engine = engine_rate(arguments.bundle, [texts[i % len(texts)] for i in range(arguments.engine_rows)])
            rounds.append({"score": rows / seconds, "engine": engine})
            print(rounds[-1], file=sys.stderr, flush=True)
        whole, draw = rows / median(row["score"] for row in rounds), random.Random(arguments.seed)
        pauses = [whole * draw.uniform(EARLIEST, LATEST) for _ in range(KILLS)]
        kills = killed_runs(arguments.bundle, file, out, pauses)
    save("score", {"cpus": cpu_quota(), "rows": sorted(files), **summary(rounds, peaks), **kills})


if __name__ == "__main__":
    main()
