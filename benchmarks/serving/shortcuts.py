"""CPU time of a request with plain FastAPI and with each of three shortcuts around it.

python -m benchmarks.serving.shortcuts DIR [--rounds 31] [--requests 400]
python -m benchmarks.serving.shortcuts DIR --against CHECKOUT     the whole server beside that of an earlier commit

- json_route: the server's own route reads and checks a JSON body, instead of FastAPI's search for all parameters.
- flat_routes: the routes of all routers stand in the application itself, before the pages of /docs.
- frozen_collector: Python's garbage collector leaves out the objects of the start and runs less often.

Each variant is a server process of its own over HTTP. Its model answers zeros, so that the cost of the service remains:
HTTP, routing, JSON, tokenization, queue, threads. The CPU time of the whole process is read before and after each
round. Rounds go there and back (A B C, C B A), and ratios are of the same round; a second server without any change is
the control. A shortcut with code of its own stays in the server only where its interval lies above 1.10; flat routes
need none.

--against runs `python -m serve DIR` of this checkout and of another one, with the bundle's own model, and prints the
ratio of their CPU time without storing it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.paths import ROOT
from benchmarks.serving.load import VARIABLES, closed_loop, dev_texts, save
from toolkit.benchmarking.server.http_client import Address, post
from toolkit.benchmarking.server.process import launch
from toolkit.data.tokenization import Batch

CONNECTIONS, WORTH = 8, 1.10
YOUNG_OBJECTS = 20_000  # made between two collections with frozen_collector; Python's own 700 are those of two requests
# a shortcut, the variant without it and the variant with it; "shipped" is the server as it is
SHORTCUTS = {
    "json_route": ("fastapi_handler", "shipped"), "flat_routes": ("included_routers", "shipped"),
    "frozen_collector": ("shipped", "frozen_collector"), "none (control)": ("control", "shipped"),
}  # fmt: skip
VARIANTS = ("shipped", "control", "fastapi_handler", "included_routers", "frozen_collector")


class ZeroModel:
    """A runtime that answers zeros.

    Args:
        classes: C, scores of a row.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def run(self, batch: Batch) -> np.ndarray:
        """Return logits [B, C]."""
        return np.zeros((len(batch["input_ids"]), self._classes), dtype=np.float32)


def serve(variant: str, bundle: str) -> None:
    """Serve a bundle's tokenizer and labels as a variant until killed; print the address."""
    import uvicorn
    from fastapi import APIRouter, FastAPI
    from fastapi.routing import APIRoute

    from serve.__main__ import listen
    from serve.app import create_app
    from serve.http.connection import Connection
    from serve.http.json_route import JsonRoute
    from serve.log_format import configure
    from serve.models.loading import load_predictor
    from toolkit.inference.predictor import Predictor

    def include(app: FastAPI) -> None:
        routes, router = app.router.routes, APIRouter()
        router.routes = [route for route in routes if isinstance(route, APIRoute)]
        routes[:] = [route for route in routes if not isinstance(route, APIRoute)]
        app.include_router(router)

    loaded = load_predictor(bundle)
    predictor = Predictor(loaded.bundle, ZeroModel(len(loaded.task.labels)))
    configure("none")
    with ExitStack() as changes:
        if variant == "fastapi_handler":
            changes.enter_context(mock.patch.object(JsonRoute, "handle", APIRoute.handle))
        app = create_app(predictor)
        if variant == "included_routers":
            include(app)
        if variant == "frozen_collector":
            gc.collect()
            gc.freeze()
            gc.set_threshold(YOUNG_OBJECTS)
        listener = changes.enter_context(listen("127.0.0.1", 0))
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", log_config=None, access_log=False, http=Connection)
        uvicorn.Server(config).run(sockets=[listener])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of another process and all of its threads."""
    return time.clock_gettime(~pid << 3 | 2)  # Linux's CPU clock of a process


def cost_of(process: subprocess.Popen[str], address: Address, requests: Sequence[bytes]) -> float:
    """Measure CPU microseconds of a request."""
    started = cpu_seconds(process.pid)
    load = asyncio.run(closed_loop(address, requests, CONNECTIONS))
    spent = cpu_seconds(process.pid) - started
    if load.count(200) != len(requests):
        raise SystemExit(f"{load.count(200)} of {len(requests)} requests were answered")
    return 1e6 * spent / len(requests)


def variant_commands(bundle: str) -> dict[str, tuple[str, ...]]:
    """Return the commands of the variants."""
    command = (sys.executable, "-m", "benchmarks.serving.shortcuts", bundle, "--variant")
    return {variant: (*command, variant) for variant in VARIANTS}


def checkout_commands(bundle: str, other: str) -> dict[str, tuple[str, ...]]:
    """Return the command of the server from this checkout and from another."""
    options = (sys.executable, "-m", "serve", str(Path(bundle).resolve()), "--port", "0", "--log-format", "none")
    return {
        name: ("env", "-C", folder, f"PYTHONPATH={folder}", *options)
        for name, folder in (("this", str(ROOT)), ("other", str(Path(other).resolve())))
    }


def measure(commands: Mapping[str, Sequence[str]], texts: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Measure CPU microseconds of a request, by the name of a server and round."""
    requests = [post({"inputs": text}) for text in texts]
    costs: dict[str, list[float]] = {name: [] for name in commands}
    with ExitStack() as stack:
        measures: dict[str, Callable[[], float]] = {}
        for name, command in commands.items():
            process = stack.enter_context(launch(command, stdout=subprocess.PIPE, **VARIABLES))
            assert process.stdout is not None
            url = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
            if not url:
                raise SystemExit(f"the server {name} did not start")
            measures[name] = partial(cost_of, process, Address(url[1], int(url[2])), requests)
            measures[name]()  # warm-up
        for number in range(rounds):
            for name in commands if number % 2 == 0 else reversed(commands):
                costs[name].append(measures[name]())
    return costs


def verdict(without: Sequence[float], with_it: Sequence[float]) -> dict[str, Any]:
    """Judge a shortcut by the costs of the same rounds without and with it.

    The interval holds the median ratio with 95 % (bootstrap over rounds).
    """
    ratios = [plain / short for plain, short in zip(without, with_it, strict=True)]
    generator = random.Random(0)
    medians = sorted(median(generator.choices(ratios, k=len(ratios))) for _ in range(2000))
    low, high = medians[50], medians[1949]
    return {
        "ratio": round(median(ratios), 4), "interval": [round(low, 4), round(high, 4)], "worth_10_percent": low >= WORTH
    }  # fmt: skip


def main() -> None:
    """Print and store the costs and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="its tokenizer and labels are used, not its model")
    parser.add_argument("--data", help="folder with SST-2's dev.tsv [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--requests", type=int, default=400, help="of one round")
    parser.add_argument("--against", metavar="CHECKOUT")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        serve(arguments.variant, arguments.bundle)
        return
    texts = dev_texts(arguments.data, arguments.requests)
    if arguments.against:
        costs = measure(checkout_commands(arguments.bundle, arguments.against), texts, arguments.rounds)
        medians = {name: round(median(rounds), 1) for name, rounds in costs.items()}
        print(json.dumps({"cpu_microseconds": medians, "this / other": verdict(costs["this"], costs["other"])}))
        return
    costs = measure(variant_commands(arguments.bundle), texts, arguments.rounds)
    save("serve_shortcuts", {
        "requests": arguments.requests, "connections": CONNECTIONS, "model": "zeros: its own time is left out",
        "cpu_microseconds": {variant: round(median(rounds), 1) for variant, rounds in costs.items()},
        "shortcuts": {
            name: verdict(costs[without], costs[with_it]) for name, (without, with_it) in SHORTCUTS.items()
        },
        "rounds": {variant: [round(cost, 1) for cost in rounds] for variant, rounds in costs.items()},
    })  # fmt: skip


if __name__ == "__main__":
    main()
