"""A server under load whose second model is killed, hangs, answers garbage, refuses with 429, and is well again.

The second model is a real server in a process of its own, which SIGKILL ends and SIGSTOP holds, behind a door of this
process that shows garbage or 429 in its place. The aims: every request is answered with 200 within its time, each phase
has what it is for, and at the end the second model answers again and the gauges are at zero.

python -m benchmarks.serving.fallback_chaos STUDENT SECOND [--threshold 0.9] [--seconds 8]   exit 1 if one is missed
"""

from __future__ import annotations

import argparse
import asyncio
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.serving.load import VARIABLES, dev_texts, open_loop, save
from toolkit.benchmarking.server.http_client import post
from toolkit.benchmarking.server.process import Server, serving

TIMEOUT_MS, FALLBACK_MS = 2_000, 300
RATE = 20.0  # requests a second
AT_REST_S = 10.0  # until the gauges have to be at zero
GAUGES = ("te_fallback_in_flight", "te_fallback_open", "te_fallback_queue_size", "te_queue_size")
OUTCOMES = {
    "well": {"answered"}, "killed": {"error", "open"}, "hanging": {"timeout"}, "garbage": {"error"}, "429": {"error"},
    "well again": {"answered"},
}  # fmt: skip
SIGNALS = {"killed": signal.SIGKILL, "hanging": signal.SIGSTOP}


class Door:
    """Passes connections on to the second model, or answers in its place."""

    def __init__(self, port: int) -> None:
        self.port, self.answer = port, b""

    async def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            if self.answer:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                await writer.drain()
                return
            upstream, onward = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(_copy(reader, onward), _copy(upstream, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    finally:
        writer.close()


def _response(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nRetry-After: 60\r\nConnection: close\r\n\r\n"
    return head.encode() + body


ANSWERS = {"garbage": _response("200 OK", b"<html>busy</html>"), "429": _response("429 Too Many Requests", b"{}")}


@contextmanager
def opened(door: Door) -> Iterator[str]:
    """Open the door on a thread of its own, and yield its URL."""
    loop, urls = asyncio.new_event_loop(), queue.SimpleQueue[str]()

    async def listen() -> None:
        listener = await asyncio.start_server(door.open, "127.0.0.1", 0)
        urls.put(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")

    def run() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield urls.get(timeout=10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def figures(server: Server) -> dict[str, float]:
    """Read the gauges, and the requests to the second model by outcome."""
    text = server.get("/metrics")
    counts = re.findall(r'^te_fallback_count(?:_total)?{outcome="(\w+)"} (\S+)', text, re.MULTILINE)
    gauges = [(name, value) for name in GAUGES for value in re.findall(rf"^{name} (\S+)", text, re.MULTILINE)]
    return {name: float(value) for name, value in (*counts, *gauges)}


def measure(
    student: str, second: str, texts: Sequence[str], threshold: float, seconds: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """Run all phases; return what became of the requests of each, and the gauges once all is at rest."""
    requests = [post({"inputs": text, "timeout_ms": TIMEOUT_MS}) for text in texts]
    phases: dict[str, Any] = {}
    with ExitStack() as stack:
        model = stack.enter_context(serving(second, "--log-format", "none", **VARIABLES))
        door = Door(model.port)
        url = f"second={stack.enter_context(opened(door))}/predict"
        options = ("--threshold", str(threshold), "--fallback", url, "--fallback-timeout-ms", str(FALLBACK_MS))
        server = stack.enter_context(serving(student, "--log-format", "none", *options, **VARIABLES))
        for phase in OUTCOMES:
            if phase in SIGNALS:
                os.kill(model.process.pid, SIGNALS[phase])
            door.answer = ANSWERS.get(phase, b"")
            before = figures(server)
            load = asyncio.run(open_loop(server, requests, RATE, seconds))
            after = figures(server)
            outcomes = {name: after[name] - before.get(name, 0.0) for name in after if name not in GAUGES}
            phases[phase] = {
                "requests": len(load.replies), "answered": load.count(200),
                "slowest_ms": load.milliseconds(1.0)[0],
                "outcomes": {name: int(count) for name, count in outcomes.items() if count},
            }  # fmt: skip
            if phase == "killed":
                model = stack.enter_context(serving(second, "--log-format", "none", **VARIABLES))
                door.port = model.port
            elif phase == "hanging":
                os.kill(model.process.pid, signal.SIGCONT)
        end = time.monotonic() + AT_REST_S
        while any(figures(server)[name] for name in GAUGES) and time.monotonic() < end:
            time.sleep(0.05)
        return phases, {name: figures(server)[name] for name in GAUGES}


def faults(phases: dict[str, Any], gauges: dict[str, float]) -> list[str]:
    """Say which aims are missed."""
    problems = [f"{name} is {value:g} at the end" for name, value in gauges.items() if value]
    for phase, result in phases.items():
        if result["answered"] < result["requests"]:
            problems.append(f"{phase}: {result['requests'] - result['answered']} requests without an answer")
        if not result["slowest_ms"] <= TIMEOUT_MS:
            problems.append(f"{phase}: {result['slowest_ms']} ms, of {TIMEOUT_MS}")
        if not OUTCOMES[phase] <= set(result["outcomes"]):
            problems.append(f"{phase}: {result['outcomes']}, where {sorted(OUTCOMES[phase])} should be")
    return problems


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student")
    parser.add_argument("second")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--data", help="folder of SST-2, for its texts")
    arguments = parser.parse_args()
    texts = dev_texts(arguments.data, 200)
    phases, gauges = measure(arguments.student, arguments.second, texts, arguments.threshold, arguments.seconds)
    problems = faults(phases, gauges)
    save("serve_fallback_chaos", {"phases": phases, "gauges": gauges, "faults": problems})
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
