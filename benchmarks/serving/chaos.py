"""Misbehaving clients of every kind at once, between good requests with known answers; SIGTERM at the end.

python -m benchmarks.serving.chaos DIR [--requests 10000] [--data SST-2]       exit 1 on a wrong answer, a hang, ...
python -m benchmarks.serving.chaos DIR --flat 100000                           good requests only: is memory flat?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.load import VARIABLES, closed_loop, dev_texts, resident_bytes, save
from benchmarks.serving.malformed_requests import MALFORMED, NOT_HTTP, PAYLOAD_LIMIT, Sample, samples
from toolkit.bench.server.http_client import Address, Connection, Reply, post
from toolkit.bench.server.process import serving
from toolkit.inference.predictor import open_predictor

HANG_SECONDS = 60.0
OPTIONS = ("--port", "0", "--log-format", "none", "--payload-limit", str(PAYLOAD_LIMIT))


@dataclass
class Chaos:
    """Clients that misbehave at random, and a tally of what came back."""

    address: Address
    samples: Sequence[Sample]
    labels: Sequence[str]
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def client(self, numbers: Iterator[int]) -> None:
        """One move after the other, each bounded in time."""
        names, moves = list(self.moves()), list(self.moves().values())
        for _ in numbers:
            which = self.random.choices(range(len(moves)), [weight for weight, _ in moves])[0]
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    problem = await moves[which][1]()
            except TimeoutError:
                problem = "no answer: hangs"
            except ConnectionError as error:
                problem = f"the server refused to talk: {error}"
            self.done[names[which]] += 1
            if problem:
                self.faults.append(f"{names[which]}: {problem}")

    def moves(self) -> dict[str, tuple[int, Callable[[], Awaitable[str | None]]]]:
        """Return the moves of a client, each with how often of a hundred times."""
        return {
            "good": (45, self._good), "good, slowly": (8, self._slow), "two at once": (5, self._pipelined),
            "no time": (5, self._hurried), "malformed": (20, self._malformed), "not HTTP": (4, self._not_http),
            "hang up at once": (6, self._hang_up), "hang up half way": (5, self._half),
            "half closed": (2, self._half_closed),
        }  # fmt: skip

    async def _good(self) -> str | None:
        sample, connection = self.random.choice(self.samples), await Connection.open(self.address)
        for _ in range(2):  # the connection must be as good as new after an answer
            problem = self.verdict(sample, await connection.ask(post(sample.body)))
            if problem:
                break
        connection.close()
        return problem

    async def _slow(self) -> str | None:
        sample, connection = self.random.choice(self.samples), await Connection.open(self.address)
        request, reply = post(sample.body), connection.reply()
        cuts = sorted(self.random.randrange(len(request)) for _ in range(4))
        for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
            connection.write(request[start:end])
            await asyncio.sleep(self.random.uniform(0, 0.05))
        problem = self.verdict(sample, await reply)
        connection.close()
        return problem

    async def _pipelined(self) -> str | None:
        both, connection = self.random.choices(self.samples, k=2), await Connection.open(self.address)
        replies = [connection.reply() for _ in both]
        connection.write(b"".join(post(sample.body) for sample in both))
        problems = [self.verdict(sample, await reply) for sample, reply in zip(both, replies, strict=True)]
        connection.close()
        return next(filter(None, problems), None)

    async def _hurried(self) -> str | None:
        sample, connection = self.random.choice(self.samples), await Connection.open(self.address)
        reply = await connection.ask(post({**sample.body, "timeout_ms": self.random.randint(1, 5)}))
        connection.close()
        return self.error(reply, {429, 504}) if reply.status != 200 else self.verdict(sample, reply)

    async def _malformed(self) -> str | None:
        name, connection = self.random.choice(list(MALFORMED)), await Connection.open(self.address)
        request, statuses = MALFORMED[name]
        problem = self.error(await connection.ask(request), statuses)
        connection.close()
        return problem and f"{name}: {problem}"

    async def _not_http(self) -> str | None:
        connection = await Connection.open(self.address)
        waiting = connection.reply()
        connection.write(self.random.choice(NOT_HTTP))
        done, _ = await asyncio.wait([waiting], timeout=1)  # half a request may also wait for its rest
        status = waiting.result().status if done else 0
        connection.close()
        return None if status == 0 or 400 <= status < 500 else f"status {status}"

    async def _hang_up(self) -> str | None:
        connection = await Connection.open(self.address)
        connection.write(post(self.random.choice(self.samples).body))
        await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.01]))
        connection.close()
        return None

    async def _half(self) -> str | None:
        connection = await Connection.open(self.address)
        request = post(self.random.choice(self.samples).body)
        connection.write(request[: self.random.randrange(len(request))])
        await asyncio.sleep(self.random.choice([0, 0.01]))
        connection.close()
        return None

    async def _half_closed(self) -> str | None:
        sample, connection = self.random.choice(self.samples), await Connection.open(self.address)
        reply = connection.reply()
        connection.write(post(sample.body))
        assert connection.transport is not None
        connection.transport.write_eof()
        got = await reply
        connection.close()
        return None if got.status == 0 else self.verdict(sample, got)

    def verdict(self, sample: Sample, reply: Reply) -> str | None:
        """Describe what is wrong with the answer to a good request, or return None."""
        if sample.right(reply, self.labels):
            return None
        return f"{str(sample.body)[:80]} got {reply.status} {reply.body[:200]!r}, not {sample.expected.tolist()}"

    def error(self, reply: Reply, statuses: set[int]) -> str | None:
        """Describe what is wrong with the answer to a bad request: another status, or not the shape of our errors."""
        try:
            shaped = set(json.loads(reply.body)) == {"error", "error_type"}
        except ValueError:
            shaped = False
        return None if reply.status in statuses and shaped else f"got {reply.status} {reply.body[:200]!r}"


async def rounds(chaos: Chaos, requests: int, clients: int) -> None:
    """Run so many moves by so many clients."""
    numbers = iter(range(requests))
    await asyncio.gather(*(chaos.client(numbers) for _ in range(clients)))


async def stop(chaos: Chaos, process: subprocess.Popen[str], clients: int) -> dict[str, int]:
    """Send SIGTERM under load: every answer must be right, and the process must end by itself with 0."""
    chosen = chaos.random.choices(chaos.samples, k=clients)
    connections = [await Connection.open(chaos.address) for _ in chosen]
    asked = [asyncio.create_task(c.ask(post(sample.body))) for c, sample in zip(connections, chosen, strict=True)]
    await asyncio.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    replies = await asyncio.wait_for(asyncio.gather(*asked), HANG_SECONDS)
    for sample, reply in zip(chosen, replies, strict=True):
        problem = chaos.verdict(sample, reply) if reply.status == 200 else None
        if problem or reply.status not in (0, 200, 503):
            chaos.faults.append(f"SIGTERM: {problem or reply}")
    return {
        "answered": sum(reply.status == 200 for reply in replies), "asked": clients,
        "exit_code": await asyncio.to_thread(process.wait, HANG_SECONDS),
    }  # fmt: skip


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


def run(
    bundle: str, texts: Sequence[str], requests: int, *, clients: int = 32, seed: int = 0, warm: float = 0.2
) -> dict[str, Any]:
    """Run chaos against a server of its own. Memory counts from when the first `warm` of the requests are over."""
    predictor = open_predictor(bundle, threads=1)
    labels, known = predictor.task.labels, samples(predictor, texts)
    with serving(bundle, *OPTIONS, **VARIABLES) as server:
        chaos = Chaos(server, known, labels, random.Random(seed))
        asyncio.run(rounds(chaos, int(requests * warm), clients))
        before = resident_bytes(server.process.pid)
        asyncio.run(rounds(chaos, requests - int(requests * warm), clients))
        gauges, after = settled(server), resident_bytes(server.process.pid)
        stopped = asyncio.run(stop(chaos, server.process, clients))
    return {
        "requests": requests, "moves": dict(sorted(chaos.done.items())), "faults": chaos.faults[:20],
        "fault_count": len(chaos.faults), "gauges": gauges, "sigterm": stopped,
        "resident_bytes": [before, after], "growth": round(after / before - 1, 4),
    }  # fmt: skip


def flat(bundle: str, texts: Sequence[str], requests: int, connections: int = 32) -> dict[str, Any]:
    """Measure memory after each tenth of so many good requests; growth is from the first tenth to the last."""
    bodies = [post({"inputs": text}) for text in texts]
    with serving(bundle, *OPTIONS, **VARIABLES) as server:
        resident = []
        for _ in range(10):
            part = (bodies * (requests // 10 // len(bodies) + 1))[: requests // 10]
            load = asyncio.run(closed_loop(server, part, connections))
            assert load.count(200) == len(part)
            resident.append(resident_bytes(server.process.pid))
    return {"requests": requests, "resident_bytes": resident, "growth": round(resident[-1] / resident[0] - 1, 4)}


def main() -> None:
    """Print and store the tally; exit 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--flat", type=int, metavar="REQUESTS")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts = dev_texts(arguments.data, 100)
    if arguments.flat:
        result = flat(arguments.bundle, texts, arguments.flat)
        save("serve_flat", result)
        sys.exit(result["growth"] >= 0.05)
    result = run(arguments.bundle, texts, arguments.requests, seed=arguments.seed)
    save("serve_chaos", result)
    good = not result["fault_count"] and not any(result["gauges"].values()) and result["sigterm"]["exit_code"] == 0
    sys.exit(not good or result["growth"] >= 0.05)


if __name__ == "__main__":
    main()
