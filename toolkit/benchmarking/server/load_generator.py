"""MLPerf's server scenario: requests arrive at random over HTTP, and the tail of their latencies counts.

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

import numpy as np

from toolkit.benchmarking.results import LoadResult
from toolkit.benchmarking.server.http_client import Address, Connection
from toolkit.measurement.statistics import percentile

TRIAL_S = 3.0
MIN_REQUESTS = 100  # for a p99
SEARCH_S = 60.0
RESOLUTION = 1.1  # the highest rate is known to within a tenth
MAX_RATE = 2.0**14


@dataclass(frozen=True)
class LoadTrial:
    """Answers to requests at one rate.

    Attributes:
        rate: requests a second that were due on average.
        latencies_ms: of every request that was answered with 200.
        refused: number of the other requests.
    """

    rate: float
    latencies_ms: list[float]
    refused: int

    def quantile(self, fraction: float) -> float | None:
        """Return a percentile in ms; None where too few requests were answered."""
        return percentile(self.latencies_ms, fraction) if self.latencies_ms else None

    def within(self, bound_ms: float) -> bool:
        """Tell whether all requests were answered, and 99 % of them within the bound."""
        p99 = self.quantile(0.99)
        return not self.refused and p99 is not None and p99 <= bound_ms

    def result(self) -> LoadResult:
        """Work out the percentiles."""
        return LoadResult(
            rate=self.rate, requests=len(self.latencies_ms) + self.refused, refused=self.refused,
            p50_ms=self.quantile(0.5), p90_ms=self.quantile(0.9), p99_ms=self.quantile(0.99),
            samples_ms=self.latencies_ms,
        )  # fmt: skip


def measure_load(
    address: Address, requests: Sequence[bytes], rate: float, bound_ms: float, seed: int
) -> tuple[LoadTrial, float | None, list[LoadTrial]]:
    """Measure latencies at one rate, and find the highest rate that keeps its p99 within a bound; return all trials.

    Args:
        address: of a running server.
        requests: as bytes, sent in turn.
        rate: requests a second of the first trial.
        bound_ms: bound of the p99.
        seed: of the arrivals.
    """

    def trial(at: float) -> LoadTrial:
        return run_poisson_load(address, requests, at, seed)

    trial(rate)  # warm-up
    first = trial(rate)
    return first, *highest_rate(trial, first, bound_ms)


def highest_rate(
    trial: Callable[[float], LoadTrial], first: LoadTrial, bound_ms: float, *,
    budget_s: float = SEARCH_S, clock: Callable[[], float] = time.monotonic,
) -> tuple[float | None, list[LoadTrial]]:  # fmt: skip
    """Search by bisection for the highest rate whose p99 keeps the bound, to within RESOLUTION; return all trials too.

    From the first trial's rate it doubles or halves until one rate holds and one does not, then takes geometric means.
    A rate that failed is tried once more: a hiccup of the machine is not the server's limit. The rate is None where not
    even one request a second keeps the bound, or time was up before any did.

    Args:
        trial: measures at a rate.
        first: a trial that was made already.
        bound_ms: bound of the p99.
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
