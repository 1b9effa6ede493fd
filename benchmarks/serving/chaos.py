"""Misbehaving clients of every kind at once, between good requests with known answers; SIGTERM at the end.

Among them are the worst bodies that are allowed, and requests that never end; nobody reads the server's log. Then short
texts are sent in turn alone and beside attackers, who send nothing else. The aims: no wrong answer, the 99th percentile
of the short texts' latency under attack at most three times that without, and memory below the limit in
kubernetes/deployment.yaml.

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

from benchmarks.serving.attack import BODY_BYTES, UNFINISHED, measure_attack, memory_limit, peak_bytes, worst_requests
from benchmarks.serving.load import VARIABLES, closed_loop, dev_texts, resident_bytes, save, settled, unread
from benchmarks.serving.malformed_requests import MALFORMED, NOT_HTTP, Sample, samples
from toolkit.benchmarking.server.http_client import Address, Connection, Reply, post
from toolkit.benchmarking.server.process import serving
from toolkit.inference.predictor import open_predictor

HANG_SECONDS = 60.0
STALLED_SECONDS = 45.0  # after which a request that never ends must be closed: 30 for its body, and some more
REFUSAL_SECONDS = 5.0  # of a connection that comes while the server drains
TIMES_SLOWER = 3.0  # short texts' p99 under attack
OPTIONS = ("--port", "0", "--log-format", "none")
WORST_STATUSES = {200, 400, 413, 422, 429, 504}


@dataclass
class Chaos:
    """Clients that misbehave at random, and a tally of what came back."""

    address: Address
    samples: Sequence[Sample]
    labels: Sequence[str]
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    worst: Sequence[bytes] = ()
    stalled: list[tuple[float, Connection]] = field(default_factory=list)  # since when, and what never ends

    def __post_init__(self) -> None:
        self.choice = random.Random(self.random.random())  # of moves alone: how many of each does not depend on time

    async def client(self, numbers: Iterator[int]) -> None:
        """One move after the other, each bounded in time."""
        names, moves = list(self.moves()), list(self.moves().values())
        for _ in numbers:
            which = self.choice.choices(range(len(moves)), [weight for weight, _ in moves])[0]
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
            "good": (40, self._good), "good, slowly": (8, self._slow), "two at once": (5, self._pipelined),
            "no time": (5, self._hurried), "malformed": (20, self._malformed), "not HTTP": (4, self._not_http),
            "hang up at once": (6, self._hang_up), "hang up half way": (5, self._half),
            "half closed": (2, self._half_closed), "worst body": (4, self._worst), "never ends": (1, self._never_ends),
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

    async def _worst(self) -> str | None:
        connection = await Connection.open(self.address)
        reply = await connection.ask(self.random.choice(self.worst))
        connection.close()
        return None if reply.status == 200 else self.error(reply, WORST_STATUSES)

    async def _never_ends(self) -> str | None:
        connection = await Connection.open(self.address)
        connection.write(self.random.choice(UNFINISHED))
        self.stalled.append((time.monotonic(), connection))
        return None

    def end_stalled(self) -> None:
        """Close the requests that never end; those that the server should have closed are faults."""
        for since, connection in self.stalled:
            if not connection.closed and time.monotonic() - since > STALLED_SECONDS:
                self.faults.append(f"never ends: still open after {time.monotonic() - since:.0f} s")
            connection.close()
        self.stalled.clear()

    def verdict(self, sample: Sample, reply: Reply) -> str | None:
        """Describe what is wrong with the answer to a good request, or return None."""
        if sample.right(reply, self.labels):
            return None
        return f"{str(sample.body)[:80]} got {reply.status} {reply.body[:200]!r}, not {sample.expected.tolist()}"

    def error(self, reply: Reply, statuses: set[int]) -> str | None:
        """Describe what is wrong with the answer to a bad request: another status, or not the shape of our errors."""
        try:
            shaped = set(json.loads(reply.body)) in ({"error", "error_type"}, {"error"})  # the latter under /v2
        except ValueError:
            shaped = False
        return None if reply.status in statuses and shaped else f"got {reply.status} {reply.body[:200]!r}"


async def rounds(chaos: Chaos, requests: int, clients: int) -> None:
    """Run so many moves by so many clients."""
    numbers = iter(range(requests))
    await asyncio.gather(*(chaos.client(numbers) for _ in range(clients)))
    chaos.end_stalled()


async def stop(chaos: Chaos, process: subprocess.Popen[str], clients: int) -> dict[str, int]:
    """Send SIGTERM under load: every answer must be right, and the process must end by itself with 0."""
    chosen = chaos.random.choices(chaos.samples, k=clients)
    connections = [await Connection.open(chaos.address) for _ in chosen]
    asked = [asyncio.create_task(c.ask(post(sample.body))) for c, sample in zip(connections, chosen, strict=True)]
    await asyncio.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            late = await (await Connection.open(chaos.address)).ask(post(chaos.samples[0].body))
            if late.status not in (0, 200, 503):
                chaos.faults.append(f"SIGTERM: a late request got {late}")
    except TimeoutError:
        chaos.faults.append("SIGTERM: a late connection hangs")
    except ConnectionError:
        pass  # refused, as it should be
    replies = await asyncio.wait_for(asyncio.gather(*asked), HANG_SECONDS)
    for sample, reply in zip(chosen, replies, strict=True):
        problem = chaos.verdict(sample, reply) if reply.status == 200 else None
        if problem or reply.status not in (0, 200, 503):
            chaos.faults.append(f"SIGTERM: {problem or reply}")
    return {
        "answered": sum(reply.status == 200 for reply in replies), "asked": clients,
        "exit_code": await asyncio.to_thread(process.wait, HANG_SECONDS),
    }  # fmt: skip


def run(
    bundle: str, texts: Sequence[str], requests: int, *, clients: int = 32, seed: int = 0, warm: float = 0.2,
    phases: int = 6, seconds: float = 10.0, bodies: int = 60,
) -> dict[str, Any]:  # fmt: skip
    """Run chaos against a server of its own. Memory counts from when the first `warm` of the requests are over.

    Args:
        requests, clients: so many moves by so many clients at once.
        phases, seconds: of the short texts, each without and beside attackers.
        bodies: how many of the worst are chosen.
    """
    predictor = open_predictor(bundle, threads=1)
    labels, known = predictor.task.labels, samples(predictor, texts)
    with unread() as log, serving(f"chaos={bundle}", "--log-format", "json", errors=log, **VARIABLES) as server:
        worst = worst_requests(BODY_BYTES, bodies, seed)
        chaos = Chaos(server, known, labels, random.Random(seed), worst=worst)
        asyncio.run(rounds(chaos, int(requests * warm), clients))
        before = resident_bytes(server.process.pid)
        asyncio.run(rounds(chaos, requests - int(requests * warm), clients))
        gauges, after = settled(server), resident_bytes(server.process.pid)
        short = [Sample({"inputs": text}, predictor.predict([text])) for text in texts]
        attack, wrong = measure_attack(server, short, labels, phases=phases, seconds=seconds, count=bodies)
        peak = peak_bytes(server.process.pid)
        stopped = asyncio.run(stop(chaos, server.process, clients))
    chaos.faults += wrong
    return {
        "requests": requests, "moves": dict(sorted(chaos.done.items())), "faults": chaos.faults[:20],
        "fault_count": len(chaos.faults), "gauges": gauges, "sigterm": stopped,
        "resident_bytes": [before, after], "growth": round(after / before - 1, 4),
        "attack": {**attack, "peak_bytes": peak, "memory_limit": memory_limit()},
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
    attack = result["attack"]
    bounded = attack["p99_ms"]["ratio"] <= TIMES_SLOWER and attack["peak_bytes"] < attack["memory_limit"]
    sys.exit(not good or not bounded or result["growth"] >= 0.05)


if __name__ == "__main__":
    main()
