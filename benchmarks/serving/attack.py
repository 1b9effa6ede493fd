"""Short texts while other clients send the worst bodies that are allowed; the server's memory meanwhile.

python -m benchmarks.serving.attack DIR [--data SST-2] [--seconds 60] [--attackers 6]

The attackers loop over bodies of nearly the size limit: many small values, deep nesting, long texts, and requests that
never end. The aims: every short text gets its own right answer, the p99 of their latency is at most three times that
without attackers, and the server's memory stays below the limit in kubernetes/deployment.yaml.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.paths import ROOT
from benchmarks.serving.load import VARIABLES, Load, dev_texts, open_loop, save
from benchmarks.serving.malformed_requests import Sample
from benchmarks.serving.worst_bodies import bodies
from toolkit.bench.server.http_client import Address, Connection, post
from toolkit.bench.server.process import Server, serving
from toolkit.config import ServeConfig
from toolkit.inference.predictor import open_predictor

RATE = 20.0  # short texts a second: far below the capacity, so that their latency is the server's own
TIMES_SLOWER = 3.0
ANSWER_SECONDS = 60.0
PATHS = ("/predict", "/", "/v2/models/attacked/infer")
UNFINISHED = (b"POST /predict HTTP/1.1\r\nHost: x\r\n", post({"inputs": "a"})[:-5])


def worst_requests(size: int, count: int, seed: int) -> list[bytes]:
    """Choose requests at random among the worst bodies for all endpoints, and texts of the largest size."""
    generator = random.Random(seed)
    named = [(path, body) for path in PATHS for _, body in bodies(path, size)]
    requests = [post(body, path) for path, body in generator.sample(named, count)]
    texts = ("a" * (size - 20), "good " * (size // 5 - 8), " " * (size - 22) + "a", "e\u0301" * (size // 12))
    batch = [["good film " * (size // 400)]] * 32
    return [*requests, *(post({"inputs": text}) for text in texts), post({"inputs": batch})]


async def attack(address: Address, requests: Iterator[bytes], over: asyncio.Event, statuses: Counter[int]) -> None:
    """Send one request after the other, each on a connection of its own, until the event."""
    while not over.is_set():
        connection = await Connection.open(address)
        with suppress(TimeoutError):
            reply = await asyncio.wait_for(connection.ask(next(requests)), ANSWER_SECONDS)
            statuses[reply.status] += 1
        connection.close()


async def never_end(address: Address, over: asyncio.Event) -> None:
    """Keep connections open whose requests never end, a new one whenever one is closed."""
    while not over.is_set():
        connection = await Connection.open(address)
        connection.write(random.choice(UNFINISHED))
        while not connection.closed and not over.is_set():
            await asyncio.sleep(0.1)
        connection.close()


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process held."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def memory_limit() -> int:
    """Return the memory limit in kubernetes/deployment.yaml, bytes."""
    manifest = (ROOT / "kubernetes" / "deployment.yaml").read_text(encoding="utf-8")
    limit = re.search(r"limits:.*?memory: (\d+)Mi", manifest, re.DOTALL)
    assert limit
    return int(limit[1]) * 2**20


def faults(load: Load, samples: Sequence[Sample], labels: Sequence[str]) -> list[str]:
    """List the short texts without their right answer."""
    right = [samples[number % len(samples)].right(reply, labels) for number, reply in sorted(load.replies.items())]
    return [f"{number}: {load.replies[number]}"[:200] for number, good in enumerate(right) if not good]


async def measure(
    server: Server, samples: Sequence[Sample], requests: Sequence[bytes], attackers: int, seconds: float
) -> tuple[Load, Load, Counter[int]]:
    """Send short texts, first alone and then beside the attackers."""
    short, statuses, over = [post(sample.body) for sample in samples], Counter[int](), asyncio.Event()
    await open_loop(server, short, RATE, 2.0)  # warm-up
    calm = await open_loop(server, short, RATE, seconds)
    attacks = [
        attack(server, itertools.cycle(requests[number::attackers] or requests), over, statuses)
        for number in range(attackers)
    ]
    tasks = [asyncio.create_task(work) for work in (*attacks, *(never_end(server, over) for _ in range(attackers)))]
    attacked = await open_loop(server, short, RATE, seconds)
    over.set()
    await asyncio.wait(tasks, timeout=2 * ANSWER_SECONDS)
    return calm, attacked, statuses


def run(
    bundle: str, texts: Sequence[str], *, seconds: float, attackers: int, size: int, count: int = 120
) -> dict[str, Any]:
    """Measure and judge."""
    predictor = open_predictor(bundle, threads=1)
    samples = [Sample({"inputs": text}, predictor.predict([text])) for text in texts]
    requests = worst_requests(size, count, seed=0)
    with serving(f"attacked={bundle}", "--log-format", "none", **VARIABLES) as server:
        started = time.perf_counter()
        calm, attacked, statuses = asyncio.run(measure(server, samples, requests, attackers, seconds))
        peak, took = peak_bytes(server.process.pid), time.perf_counter() - started
    wrong = [*faults(calm, samples, predictor.task.labels), *faults(attacked, samples, predictor.task.labels)]
    p99 = [load.milliseconds(0.99)[0] for load in (calm, attacked)]
    return {
        "seconds": round(took, 1), "attackers": attackers, "body_bytes": size, "short_texts": len(attacked.replies),
        "attacks": {str(status): number for status, number in sorted(statuses.items())},
        "p50_ms": [load.milliseconds(0.5)[0] for load in (calm, attacked)], "p99_ms": p99,
        "p99_ratio": round(p99[1] / p99[0], 2), "peak_bytes": peak, "memory_limit": memory_limit(),
        "fault_count": len(wrong), "faults": wrong[:20],
    }  # fmt: skip


def main() -> None:
    """Print and store the measurements; exit 1 when an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--attackers", type=int, default=6)
    arguments = parser.parse_args()
    size = ServeConfig.payload_limit - 1000
    result = run(
        arguments.bundle, dev_texts(arguments.data, 100), seconds=arguments.seconds, attackers=arguments.attackers,
        size=size,
    )  # fmt: skip
    save("serve_attack", result)
    slow, large = result["p99_ratio"] > TIMES_SLOWER, result["peak_bytes"] > result["memory_limit"]
    sys.exit(bool(result["fault_count"] or slow or large))


if __name__ == "__main__":
    main()
