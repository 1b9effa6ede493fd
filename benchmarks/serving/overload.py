"""Five times the load that the server can take, and the first answer of an idle one.

python -m benchmarks.serving.overload DIR [--data SST-2] [--seconds 60] [--times 5] [--timeout-ms 1000]

Requests have 16 texts each, so that the load generator, on the same cores, can offer that much. They arrive at a rate
whatever comes back. The aims: 200, 429 and 504 only; p99 of the answered within the deadline; full speed 2 s after;
under 10 ms from idle to the answer for a text of 32 tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.serving.load import VARIABLES, Load, closed_loop, dev_texts, open_loop, save
from toolkit.benchmarking.server.http_client import Address, Connection, post
from toolkit.benchmarking.server.process import serving

TEXTS, CONNECTIONS, LENGTH = 16, 8, 32
IDLE_SECONDS = 0.2


def capacity(address: Address, requests: Sequence[bytes], seconds: float) -> float:
    """Measure the requests a second that the server answers when no more are sent than it takes."""
    load, count = Load(), 64
    while load.seconds < seconds:
        load = asyncio.run(closed_loop(address, [requests[i % len(requests)] for i in range(count)], CONNECTIONS))
        count = max(2 * count, 64)
    return load.count(200) / load.seconds


def statuses(load: Load) -> dict[str, int]:
    """Count each status; 0 is a connection that ended without an answer."""
    return dict(sorted(Counter(str(reply.status) for reply in load.replies.values()).items()))


def first_answers(address: Address, text: str, times: int = 30) -> list[float]:
    """Measure milliseconds to the answer for a text, each after a pause, on a connection that stays open."""

    async def ask() -> list[float]:
        connection, latencies = await Connection.open(address), []
        for _ in range(times):
            await asyncio.sleep(IDLE_SECONDS)
            latencies.append(1000 * (await connection.ask(post({"inputs": text}))).seconds)
        connection.close()
        return latencies

    return asyncio.run(ask())


def of_length(bundle: str, texts: Sequence[str], tokens: int = LENGTH) -> str:
    """Find a text of so many tokens, special ones included."""
    from toolkit.bundle.format import open_bundle
    from toolkit.data.tokenization import TextEncoder

    opened = open_bundle(bundle)
    encoder, words = TextEncoder(opened.path, opened.max_length), " ".join(texts).split()
    for end in range(1, len(words)):
        text = " ".join(words[:end])
        if encoder.count(text) == tokens:
            return text
    raise SystemExit(f"no text of {tokens} tokens among the words")


def measure(
    bundle: str, texts: Sequence[str], *, seconds: float, times: float, timeout_ms: int, calm: float = 5.0
) -> dict[str, Any]:
    """Measure the idle server, its capacity, overload, and the time until the server is as before."""
    body = [[text] for text in texts]
    slices = [body[i : i + TEXTS] for i in range(0, len(body) - TEXTS + 1, TEXTS)]
    plain = [post({"inputs": texts_of_request}) for texts_of_request in slices]
    limited = [post({"inputs": texts_of_request, "timeout_ms": timeout_ms}) for texts_of_request in slices]
    with serving(bundle, "--log-format", "none", **VARIABLES) as address:
        asyncio.run(closed_loop(address, plain[:20], CONNECTIONS))
        idle = first_answers(address, of_length(bundle, texts))
        rate = capacity(address, plain, calm)
        load = asyncio.run(open_loop(address, limited, times * rate, seconds))
        ended = time.perf_counter()
        after = asyncio.run(closed_loop(address, limited[:40] * 2, CONNECTIONS))
        recovered = time.perf_counter() - ended
        queue = address.metric("te_queue_size")
    p50, p99, most = load.milliseconds(0.5, 0.99, 1.0)
    return {
        "bundle": bundle, "texts_a_request": TEXTS, "capacity_requests_per_s": round(rate, 1), "times": times,
        "offered_requests_per_s": round(len(load.replies) / load.seconds, 1), "seconds": seconds,
        "timeout_ms": timeout_ms, "statuses": statuses(load),
        "answered_requests_per_s": round(load.count(200) / load.seconds, 1),
        "answered_p50_ms": p50, "answered_p99_ms": p99, "answered_max_ms": most,
        "refused_p99_ms": load.milliseconds(0.99, status=429)[0],
        "after": {"statuses": statuses(after), "seconds": round(recovered, 3), "queue_size": queue,
                  "p99_ms": after.milliseconds(0.99)[0]},
        "idle_first_answer_ms": {"median": round(median(idle), 2), "max": round(max(idle), 2), "tokens": LENGTH},
    }  # fmt: skip


def met(result: dict[str, Any]) -> dict[str, bool]:
    """Judge each aim."""
    return {
        "only 200, 429 and 504": set(result["statuses"]) <= {"200", "429", "504"},
        "answered p99 within the deadline": result["answered_p99_ms"] <= result["timeout_ms"],
        "recovered within 2 s": result["after"]["seconds"] < 2 and set(result["after"]["statuses"]) == {"200"},
        "idle to first answer under 10 ms": result["idle_first_answer_ms"]["median"] < 10,
    }


def main() -> None:
    """Print and store what happened; exit 1 when an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=5)
    parser.add_argument("--timeout-ms", type=int, default=1000)
    arguments = parser.parse_args()
    result = measure(
        arguments.bundle, dev_texts(arguments.data, 1600), seconds=arguments.seconds, times=arguments.times,
        timeout_ms=arguments.timeout_ms,
    )  # fmt: skip
    result["aims"] = met(result)
    save("serve_overload", result)
    sys.exit(not all(result["aims"].values()))


if __name__ == "__main__":
    main()
