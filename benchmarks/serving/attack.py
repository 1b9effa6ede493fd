"""The worst clients that are allowed, in a process of their own, and what short texts wait beside them.

A part of benchmarks.serving.chaos. The attackers loop over bodies of nearly the size limit: many small values, deep
nesting, long texts; others keep requests open that never end. Their CPU time is another process's, so that the latency
of short texts is the server's and not that of a client that is busy with large bodies itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.paths import ROOT
from benchmarks.serving.load import VARIABLES, Load, open_loop
from benchmarks.serving.malformed_requests import PAYLOAD_LIMIT, Sample
from benchmarks.serving.worst_bodies import TEMPLATES, values
from toolkit.benchmarking.server.http_client import Address, Connection, post
from toolkit.benchmarking.server.process import launch

RATE = 20.0  # short texts a second: far below the capacity, so that their latency is the server's own
ANSWER_SECONDS = 60.0
PATHS = ("/predict", "/", "/v2/models/chaos/infer")
UNFINISHED = (b"POST /predict HTTP/1.1\r\nHost: x\r\n", post({"inputs": "a"})[:-5])
BODY_BYTES = PAYLOAD_LIMIT - 1000


def worst_requests(size: int, count: int, seed: int) -> list[bytes]:
    """Choose requests at random among the worst bodies for all endpoints, and texts of the largest size."""
    generator = random.Random(seed)
    kinds = sum(1 for _ in values(5000))
    requests = []
    for _ in range(count):
        path = generator.choice(PATHS)
        template = generator.choice(TEMPLATES[path.rpartition("/")[2]])
        ((_, value),) = islice(values(size - len(template)), number := generator.randrange(kinds), number + 1)
        requests.append(post(template.replace(b"%s", value), path))
    texts = ("a" * (size - 20), "good " * (size // 5 - 8), " " * (size - 22) + "a", "e\u0301" * (size // 12))
    batch = [["good film " * (size // 400)]] * 32
    return [*requests, *(post({"inputs": text}) for text in texts), post({"inputs": batch})]


async def attack(address: Address, requests: Iterator[bytes]) -> None:
    """Send one request after the other, each on a connection of its own, without end."""
    for request in requests:
        connection = await Connection.open(address)
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.ask(request), ANSWER_SECONDS)
        connection.close()


async def never_end(address: Address) -> None:
    """Keep a connection open whose request never ends, a new one whenever one is closed."""
    while True:
        connection = await Connection.open(address)
        connection.write(random.choice(UNFINISHED))
        while not connection.closed:
            await asyncio.sleep(0.1)


async def attack_together(address: Address, attackers: int, count: int) -> None:
    """Attack by so many clients of both kinds until killed; print a line once they begin."""
    requests = worst_requests(BODY_BYTES, count, seed=0)
    random.Random(1).shuffle(requests)
    os.nice(10)  # in life they run on machines of their own
    print("attacking", flush=True)
    await asyncio.gather(
        *(attack(address, itertools.cycle(requests[number::attackers])) for number in range(attackers)),
        *(never_end(address) for _ in range(attackers)),
    )


@contextmanager
def attackers(address: Address, number: int, count: int) -> Iterator[None]:
    """Run the attackers in another process meanwhile."""
    command = (sys.executable, "-m", "benchmarks.serving.attack", address.host, str(address.port), str(number))
    with launch((*command, str(count)), stdout=subprocess.PIPE, **VARIABLES) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("the attackers did not start")
        yield


async def short_texts(address: Address, samples: Sequence[Sample], seconds: float) -> Load:
    """Send short texts at their rate."""
    return await open_loop(address, [post(sample.body) for sample in samples], RATE, seconds)


def measure_attack(
    address: Address, samples: Sequence[Sample], labels: Sequence[str], *, phases: int, seconds: float, number: int = 6,
    count: int = 60,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Measure the latency of short texts in turn without and beside attackers; list those that were answered wrong."""
    loads: dict[str, list[Load]] = {"calm": [], "attacked": []}
    asyncio.run(short_texts(address, samples, 1.0))  # warm-up
    for _ in range(phases):
        loads["calm"].append(asyncio.run(short_texts(address, samples, seconds)))
        with attackers(address, number, count):
            loads["attacked"].append(asyncio.run(short_texts(address, samples, seconds)))
        time.sleep(1.0)  # what was accepted is answered
    wrong = [fault for both in loads.values() for load in both for fault in faults(load, samples, labels)]
    merged = {name: merge(parts) for name, parts in loads.items()}
    result: dict[str, Any] = {"attackers": number, "short_texts": len(merged["attacked"].replies)}
    for key, quantile in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        result[key] = {name: load.milliseconds(quantile)[0] for name, load in merged.items()}
        result[key]["ratio"] = round(result[key]["attacked"] / result[key]["calm"], 2)
    return result, wrong


def merge(loads: Sequence[Load]) -> Load:
    """Put the replies of several loads together, numbered anew."""
    replies = itertools.chain.from_iterable(load.replies.values() for load in loads)
    return Load(dict(enumerate(replies)), sum(load.seconds for load in loads))


def faults(load: Load, samples: Sequence[Sample], labels: Sequence[str]) -> list[str]:
    """List the short texts without their right answer."""
    right = [samples[number % len(samples)].right(reply, labels) for number, reply in sorted(load.replies.items())]
    return [f"short text {number}: {load.replies[number]}"[:200] for number, good in enumerate(right) if not good]


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


if __name__ == "__main__":
    host, port, number, count = sys.argv[1:]
    asyncio.run(attack_together(Address(host, int(port)), int(number), int(count)))
