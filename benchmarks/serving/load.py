"""What the serve_* benchmarks share: a server process, texts, and an HTTP/1.1 client that costs little.

The client runs on the cores that it measures, so it is a bare asyncio protocol, which uvloop runs too: requests are
bytes made beforehand, and of an answer it reads the status, Content-Length and body. It follows no redirects and knows
no chunked answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paths import RESULTS, ROOT
from toolkit.bench.server.http_client import Address, Connection, Reply

IDLE_SECONDS = 2.0


@contextmanager
def spawn(command: Sequence[str], stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, numerical libraries at one thread; all of it is killed afterwards."""
    process = subprocess.Popen(
        command, stdout=stdout, text=True, cwd=ROOT, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """`python -m serve` with these options, once it has said its address."""
    with spawn((sys.executable, "-m", "serve", *options), subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            raise SystemExit(f"the server did not start: {line}")
        yield process, Address(found[1], int(found[2]))


@dataclass
class Load:
    """The replies to the requests that were sent, by the number of the request, and how long all took."""

    replies: dict[int, Reply] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, *statuses: int) -> int:
        """How many answers had one of these statuses."""
        return sum(reply.status in statuses for reply in self.replies.values())

    def milliseconds(self, *quantiles: float, status: int = 200) -> list[float]:
        """Quantiles of the latency of the answers with a status; NaN when there are none."""
        found = [1000 * reply.seconds for reply in self.replies.values() if reply.status == status]
        return [round(float(one), 3) for one in np.quantile(found or [np.nan], quantiles)]


async def closed_loop(address: Address, requests: Sequence[bytes], connections: int) -> Load:
    """Send every request once over so many connections, each with one under way; those that end are renewed."""
    load, left = Load(), iter(range(len(requests)))

    async def work(connection: Connection) -> None:
        for number in left:
            if connection.closed:
                connection = await Connection.open(address)
            load.replies[number] = await connection.ask(requests[number])
        connection.close()

    opened = [await Connection.open(address) for _ in range(connections)]
    started = time.perf_counter()
    await asyncio.gather(*map(work, opened))
    load.seconds = time.perf_counter() - started
    return load


async def open_loop(address: Address, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
    """Send requests at a rate whatever comes back, as many users who know nothing of each other would.

    Latency counts from when a request is due. A connection idle for `IDLE_SECONDS` is not used again: the server may
    be about to close it.
    """
    load, idle, tasks = Load(), list[tuple[float, Connection]](), set[asyncio.Task[None]]()

    async def one(number: int) -> None:
        due = time.perf_counter()
        connection = None
        while idle and connection is None:
            since, found = idle.pop()
            connection = None if found.closed or due - since > IDLE_SECONDS else found
        connection = connection or await Connection.open(address)
        reply = await connection.ask(requests[number % len(requests)])
        load.replies[number] = Reply(reply.status, reply.body, time.perf_counter() - due)
        if not connection.closed:
            idle.append((time.perf_counter(), connection))

    started, number = time.perf_counter(), 0
    while (now := time.perf_counter() - started) < seconds:
        for due in range(number, int(now * rate)):
            task = asyncio.create_task(one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        number = max(number, int(now * rate))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - started
    for _, connection in idle:
        connection.close()
    return load


def dev_texts(data: str | None, count: int) -> list[str]:
    """Sentences to classify: SST-2's dev set in a folder, or without one the embedded Rotten Tomatoes'."""
    from toolkit.data.datasets import load_split
    from toolkit.tasks import get_task

    texts = load_split(get_task("sst2" if data else "rotten-tomatoes"), "dev", data).texts
    return [texts[i % len(texts)] for i in range(count)]


def resident_bytes(pid: int) -> int:
    """Memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def save(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json, with the machine it was measured on, and print it."""
    from toolkit.measurement.environment import environment

    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    whole = {**result, "environment": environment()}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
