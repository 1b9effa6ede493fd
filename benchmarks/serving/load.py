"""Closed and open loops of requests, texts, and the results file, for all benchmarks of the server."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.paths import RESULTS
from toolkit.benchmarking.server.http_client import Address, Connection, Reply

IDLE_SECONDS = 2.0
# of every server: numerical libraries at one thread, no network
VARIABLES = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass
class Load:
    """The replies to the requests that were sent, by the number of the request, and how long all took."""

    replies: dict[int, Reply] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, *statuses: int) -> int:
        """Count the answers with these statuses."""
        return sum(reply.status in statuses for reply in self.replies.values())

    def milliseconds(self, *quantiles: float, status: int = 200) -> list[float]:
        """Compute quantiles of the latency of the answers with a status; NaN when there are none."""
        latencies = [1000 * reply.seconds for reply in self.replies.values() if reply.status == status]
        return [round(float(value), 3) for value in np.quantile(latencies or [np.nan], quantiles)]


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
    """Send requests at a rate that does not depend on the answers, as many independent users do.

    Latency counts from when a request is due. A connection idle for `IDLE_SECONDS` is not used again: the server may
    be about to close it.
    """
    load, idle, tasks = Load(), list[tuple[float, Connection]](), set[asyncio.Task[None]]()

    async def one(number: int) -> None:
        due = time.perf_counter()
        connection = None
        while idle and connection is None:
            since, idle_connection = idle.pop()
            connection = None if idle_connection.closed or due - since > IDLE_SECONDS else idle_connection
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
    """Read sentences to classify: SST-2's dev set in a folder, or without one the embedded Rotten Tomatoes'."""
    from toolkit.data.datasets import load_split
    from toolkit.tasks import get_task

    texts = load_split(get_task("sst2" if data else "rotten-tomatoes"), "dev", data).texts
    return [texts[i % len(texts)] for i in range(count)]


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled(address: Address, seconds: float = 5.0) -> dict[str, float]:
    """Read the gauge and the balance of requests, once both are zero or the time is over."""
    end = time.monotonic() + seconds
    while True:
        gauges = {
            "queue_size": address.metric("te_queue_size"),
            "unaccounted": address.metric("te_request_count")
            - address.metric("te_request_success") - address.metric("te_request_failure"),
        }  # fmt: skip
        if not any(gauges.values()) or time.monotonic() > end:
            return gauges
        time.sleep(0.05)


@contextmanager
def unread() -> Iterator[IO[str]]:
    """Make a file for a log that fills up, since nobody reads it."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as log:
        yield log


def save(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json, with the machine it was measured on, and print it."""
    from toolkit.measurement.environment import environment

    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    whole = {**result, "environment": environment()}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
