"""MLPerf's server scenario: requests arrive at random over HTTP, and the tail of their latencies is what counts.

Arrivals are Poisson: gaps drawn from an exponential distribution, whatever the server does meanwhile. A latency counts
from the moment a request was due, not from when it could be sent, so that a server that falls behind is not forgiven
(the "coordinated omission" of closed loops). The client runs on the machine that it measures and takes its share.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.bench.server.http_client import Address, Connection, post
from toolkit.measurement.statistics import percentile

TRIAL_S = 3.0
MIN_REQUESTS = 100  # for a p99
SEARCH_S = 60.0
RESOLUTION = 1.1  # the highest rate is known to within a tenth
MAX_RATE = 2.0**14


@dataclass(frozen=True)
class LoadTrial:
    """What came of requests at one rate.

    Attributes:
        rate: requests a second that were due on average.
        latencies_ms: of every request that was answered with 200.
        refused: how many were not.
    """

    rate: float
    latencies_ms: list[float]
    refused: int

    def quantile(self, share: float) -> float | None:
        """A percentile in ms; None where too few were answered."""
        return percentile(self.latencies_ms, share) if self.latencies_ms else None

    def within(self, bound_ms: float) -> bool:
        """Whether all were answered, and 99 % of them within the bound."""
        p99 = self.quantile(0.99)
        return not self.refused and p99 is not None and p99 <= bound_ms

    def to_dict(self) -> dict[str, Any]:
        """Rate, percentiles, refusals and raw samples."""
        shares = {f"p{round(100 * share)}_ms": self.quantile(share) for share in (0.5, 0.9, 0.99)}
        counts = {"rate": self.rate, "requests": len(self.latencies_ms) + self.refused, "refused": self.refused}
        return {**counts, **shares, "samples_ms": self.latencies_ms}


def server_scenario(
    address: Address, bodies: Sequence[dict[str, Any]], rate: float, bound_ms: float, seed: int
) -> dict[str, Any]:
    """Latencies at one rate, and the highest rate that keeps its p99 within a bound.

    Args:
        address: of a running server.
        bodies: /predict requests, sent in turn.
        rate: requests a second of the first trial.
        bound_ms: that the p99 has to keep.
        seed: of the arrivals.
    """
    requests = [post(body) for body in bodies]

    def trial(at: float) -> LoadTrial:
        return run_poisson_load(address, requests, at, seed)

    trial(rate)  # warm-up
    first = trial(rate)
    highest, tried = highest_rate(trial, first, bound_ms)
    return {
        **first.to_dict(), "bound_ms": bound_ms, "highest_rate": highest,
        "trials": [one.to_dict() for one in tried],
    }  # fmt: skip


def highest_rate(
    trial: Callable[[float], LoadTrial], first: LoadTrial, bound_ms: float, *,
    budget_s: float = SEARCH_S, clock: Callable[[], float] = time.monotonic,
) -> tuple[float | None, list[LoadTrial]]:  # fmt: skip
    """Bisection for the highest rate whose p99 keeps the bound, to within RESOLUTION; and all trials.

    From the first trial's rate it doubles or halves until one rate holds and one does not, then takes geometric means.
    A rate that failed is tried once more: one hiccup of the machine is not the server's limit. None: not even one
    request a second keeps the bound, or time was up before any did.

    Args:
        trial: measures at a rate.
        first: a trial that was made already.
        bound_ms: that the p99 has to keep.
        budget_s: no trial begins after this many seconds.
        clock: tells seconds.
    """
    started, trials = clock(), [first]
    held, failed = 0.0, math.inf
    at, fine = first.rate, first.within(bound_ms)
    while True:
        if fine:
            held = at
        else:
            failed = at
        at = 2 * held if math.isinf(failed) else failed / 2 if not held else math.sqrt(held * failed)
        if failed / max(held, 1e-9) <= RESOLUTION or not 1 <= at <= MAX_RATE or clock() - started > budget_s:
            return held or None, trials
        fine = False
        for _ in range(2):
            trials.append(trial(at))
            fine = trials[-1].within(bound_ms)
            if fine or clock() - started > budget_s:
                break


def run_poisson_load(address: Address, requests: Sequence[bytes], rate: float, seed: int) -> LoadTrial:
    """Send requests at random moments, `rate` a second on average, for TRIAL_S seconds or MIN_REQUESTS requests."""
    count = max(MIN_REQUESTS, round(rate * TRIAL_S))
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    answers = asyncio.run(_send(address, requests, due.tolist()))
    latencies = [latency for latency, status in answers if status == 200]
    return LoadTrial(rate, latencies, len(answers) - len(latencies))


async def _send(address: Address, requests: Sequence[bytes], due: Sequence[float]) -> list[tuple[float, int]]:
    """(latency in ms from the moment due, status) of each request, in their order."""
    idle: list[Connection] = []
    started = time.perf_counter()

    async def send(number: int) -> tuple[float, int]:
        await asyncio.sleep(started + due[number] - time.perf_counter())
        connection = idle.pop() if idle else await Connection.open(address)
        reply = await connection.ask(requests[number % len(requests)])
        if not connection.closed:
            idle.append(connection)
        return 1000 * (time.perf_counter() - started - due[number]), reply.status

    try:
        return await asyncio.gather(*map(send, range(len(due))))
    finally:
        for connection in idle:
            connection.close()
