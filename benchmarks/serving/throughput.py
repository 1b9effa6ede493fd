"""Single-text requests a second over HTTP: this server, its engine without HTTP, and other ways to serve the bundle.

python -m benchmarks.serving.throughput DIR [--data SST-2] [--litserve PYTHON] [--infinity COMMAND] [--rounds 5]

Load generator and servers share all cores. Rounds are interleaved, there and back (A B C, C B A), and only the server
that is measured runs; the others are stopped (SIGSTOP). --litserve is a Python that has LitServe, --infinity the
command infinity_emb, in environments of their own. The aims: 70 % of the engine's rate, and twice the peers' at a p99
no worse.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import uvloop

from benchmarks.serving.load import VARIABLES, closed_loop, dev_texts, save
from toolkit.benchmarking.server.http_client import Address, post
from toolkit.benchmarking.server.process import launch, serving

CONNECTIONS = 32
Round = tuple[float, float, float]  # texts a second, p50 and p99 in milliseconds


def engine_rate(bundle: str, texts: Sequence[str], inputs: int, under_way: int) -> Round:
    """Measure the engine without HTTP: requests of so many inputs, so many under way, in this process."""
    from serve.engine.engine import Engine
    from serve.engine.limits import Limits
    from serve.engine.workers import WorkerPool
    from serve.metrics import Metrics
    from serve.models.loading import load_predictor

    requests = [[(text, None) for text in texts[i : i + inputs]] for i in range(0, len(texts), inputs)]

    async def run() -> Round:
        """Warm up, then time every request from its call to its answer."""
        limits, metrics = Limits(), Metrics()
        workers = WorkerPool(limits.workers, metrics.queue_size)
        engine, left, taken = Engine(load_predictor(bundle), limits, metrics, workers), iter(requests), list[float]()

        async def work() -> None:
            for request in left:
                started = time.perf_counter()
                await engine.predict(request)
                taken.append(1000 * (time.perf_counter() - started))

        await engine.predict(requests[0])
        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(under_way)))
        seconds = time.perf_counter() - started
        await engine.close()
        await workers.close()
        taken.sort()
        return len(texts) / seconds, taken[len(taken) // 2], taken[int(0.99 * len(taken))]

    return uvloop.run(run())


def http_rate(address: Address, requests: Sequence[bytes]) -> Round:
    """Measure all requests over HTTP, on 32 connections."""
    load = uvloop.run(closed_loop(address, requests, CONNECTIONS))
    if load.count(200) != len(requests):
        wrong = next(reply for reply in load.replies.values() if reply.status != 200)
        raise SystemExit(f"{address} answered {wrong.status}: {wrong.body[:200]!r}")
    return len(requests) / load.seconds, *load.milliseconds(0.5, 0.99)


@contextmanager
def peer(*command: str, port: int) -> Iterator[tuple[int, Address]]:
    """Run another server on a port of ours; yield once it listens."""
    with launch(command, **VARIABLES) as process:
        end = time.monotonic() + 180
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (URLError, OSError) as error:
                if getattr(error, "code", 0):  # it answers, though it has no such path
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{' '.join(command)} did not start") from error
                time.sleep(0.3)
        yield process.pid, Address("127.0.0.1", port)


@contextmanager
def running(group: int) -> Iterator[None]:
    """Let a stopped process group run for the time of a measurement."""
    os.killpg(group, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGSTOP)


def contenders(arguments: argparse.Namespace, stack: ExitStack, texts: Sequence[str]) -> dict[str, Callable[[], Round]]:
    """Return the measurements by name; every server is up, warm and stopped."""
    bundle, python = arguments.bundle, (sys.executable, "-m", "benchmarks.serving.baseline_fastapi")
    measures: dict[str, Callable[[], Round]] = {
        "engine, 32 single texts under way": lambda: engine_rate(bundle, texts, 1, CONNECTIONS),
        "engine, requests of 32 texts": lambda: engine_rate(bundle, texts, 32, 4),
    }

    def add(name: str, group: int, address: Address, requests: list[bytes]) -> None:
        http_rate(address, requests[:200])
        os.killpg(group, signal.SIGSTOP)
        stack.callback(os.killpg, group, signal.SIGCONT)  # a stopped process does not end

        def measure() -> Round:
            with running(group):
                return http_rate(address, requests)

        measures[name] = measure

    plain = [post({"inputs": text}) for text in texts]
    for processes in arguments.processes:
        options = ("--log-format", "none", "--processes", str(processes))
        server = stack.enter_context(serving(bundle, *options, **VARIABLES))
        add(f"toolkit serve, processes {processes}", server.process.pid, server, plain)
    add("FastAPI without batching", *stack.enter_context(peer(*python, bundle, "8951", port=8951)), plain)
    if arguments.litserve:
        command = (arguments.litserve, "-m", "benchmarks.serving.baseline_litserve", bundle, "8952")
        add("LitServe", *stack.enter_context(peer(*command, port=8952)), plain)
    if arguments.infinity:
        own = [post({"model": "peer", "input": [text]}, "/classify") for text in texts]
        own_copy = stack.enter_context(TemporaryDirectory()) + "/model"  # it rewrites the config.json of what it serves
        copytree(bundle, own_copy)
        command = (
            arguments.infinity, "v2", "--model-id", own_copy, "--served-model-name", "peer", "--engine", "optimum",
            "--device", "cpu", "--port", "8953", "--host", "127.0.0.1", "--no-bettertransformer", "--no-model-warmup",
        )  # fmt: skip
        add("infinity-emb", *stack.enter_context(peer(*command, port=8953)), own)
    return measures


def verdicts(rows: dict[str, list[Round]]) -> dict[str, Any]:
    """Compute the ratios of the aims: medians over rounds, each ratio of the same round."""
    names = [name for name in rows if name.startswith("toolkit serve")]
    best = max(names, key=lambda name: median(rate for rate, *_ in rows[name]))
    ratios: dict[str, Any] = {"server": best}
    for name, measured in rows.items():
        if name in names:
            continue
        pairs = list(zip(rows[best], measured, strict=True))
        ratios[name] = {"rate_ratio": round(median(ours[0] / other[0] for ours, other in pairs), 3)}
        if not name.startswith("engine"):
            ratios[name]["p99_ratio"] = round(median(ours[2] / other[2] for ours, other in pairs), 3)
    return ratios


def main() -> None:
    """Print and store the rates of all rounds and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--texts", type=int, default=4000, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--infinity", metavar="COMMAND")
    arguments = parser.parse_args()
    texts = dev_texts(arguments.data, arguments.texts)
    rows: dict[str, list[Round]] = {}
    with ExitStack() as stack:
        measures = contenders(arguments, stack, texts)
        for number in range(arguments.rounds):
            for name in list(measures) if number % 2 == 0 else reversed(list(measures)):
                rows.setdefault(name, []).append(measures[name]())
                print(number, name, *(round(value, 2) for value in rows[name][-1]), file=sys.stderr, flush=True)
    summary = {
        name: {"texts_per_s": round(median(rate for rate, *_ in measured), 1),
               "p50_ms": round(median(p50 for _, p50, _ in measured), 2),
               "p99_ms": round(median(p99 for *_, p99 in measured), 2), "rounds": measured}
        for name, measured in rows.items()
    }  # fmt: skip
    save("serve_load", {
        "bundle": arguments.bundle, "texts": len(texts), "connections": CONNECTIONS, "contenders": summary,
        "ratios": verdicts(rows),
    })  # fmt: skip


if __name__ == "__main__":
    main()
