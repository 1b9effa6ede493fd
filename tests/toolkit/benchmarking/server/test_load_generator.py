"""The server scenario's search against a queue whose limit is known, and its client against a real socket."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from toolkit.benchmarking.server.http_client import Address, post
from toolkit.benchmarking.server.load_generator import RESOLUTION, LoadTrial, highest_rate, run_poisson_load


def queue(rate: float, service_ms: float = 10.0, seed: int = 0) -> LoadTrial:
    """One server that takes 10 ms a request, first come first served: it can do 100 a second and no more."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1000 / rate, 2000))
    free, latencies = 0.0, []
    for due in arrivals:
        free = max(free, due) + service_ms
        latencies.append(free - due)
    return LoadTrial(rate, latencies, refused=0)


def test_the_highest_rate_of_a_known_queue_is_found() -> None:
    exact = max(rate for rate in range(1, 120) if queue(rate).within(50))
    assert 40 < exact < 100
    for start in (1.0, 20.0, exact, 90.0, 3000.0):
        rate, trials = highest_rate(queue, queue(start), 50)
        assert rate is not None
        assert exact / RESOLUTION <= rate <= exact + 1
        assert trials[0].rate == start
        assert len(trials) < 25


def test_no_rate_will_do_and_time_runs_out() -> None:
    assert highest_rate(queue, queue(8.0), 9.9)[0] is None  # each request takes 10 ms
    ticks = iter(range(0, 1000, 40))
    rate, trials = highest_rate(queue, queue(8.0), 50, budget_s=60, clock=lambda: float(next(ticks)))
    assert (rate, [trial.rate for trial in trials]) == (16.0, [8.0, 16.0])


def test_one_hiccup_is_not_the_limit() -> None:
    tried: list[float] = []

    def hiccup(rate: float) -> LoadTrial:
        tried.append(rate)
        return queue(rate, service_ms=500.0 if tried.count(rate) == 1 and rate == 32.0 else 10.0)

    rate, _ = highest_rate(hiccup, queue(16.0), 50)
    assert rate is not None
    assert rate > 32


def test_a_refusal_or_too_few_answers_fail_a_trial() -> None:
    assert LoadTrial(1, [5.0] * 100, 0).within(5)
    assert not LoadTrial(1, [5.0] * 100, 1).within(5)
    assert not LoadTrial(1, [5.0] * 98 + [6.0] * 2, 0).within(5)
    assert not LoadTrial(1, [], 0).within(5)
    assert LoadTrial(1, [], 3).result().p99_ms is None


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """A server that refuses every fourth request."""
    count = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            refuse = next(count) % 4 == 3
            self.send_response(429 if refuse else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Address("127.0.0.1", server.server_address[1])
        server.shutdown()


def test_requests_arrive_at_the_rate_and_refusals_are_counted(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.benchmarking.server.load_generator.TRIAL_S", 0.1)
    requests = [post({"inputs": "a"}), post({"inputs": "something longer"})]
    trial = run_poisson_load(address, requests, rate=500, seed=1)
    assert (len(trial.latencies_ms), trial.refused) == (75, 25)
    assert min(trial.latencies_ms) > 0
    assert not trial.within(1e9)


def test_a_connection_that_ends_is_a_refusal_and_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.benchmarking.server.load_generator.MIN_REQUESTS", 20)
    monkeypatch.setattr("toolkit.benchmarking.server.load_generator.TRIAL_S", 0.01)
    opened = 0

    class HangUp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            nonlocal opened
            opened += 1
            self.rfile.readline()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        trial = run_poisson_load(Address("127.0.0.1", server.server_address[1]), [post({})], rate=500, seed=1)
        server.shutdown()
    assert (trial.latencies_ms, trial.refused, opened) == ([], 20, 20)
