"""An engine of arithmetic bundles whose batches wait until a test lets them go on."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

from serve.engine.engine import Engine, EngineResult
from serve.engine.limits import Limits
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.metrics import Metrics
from tests.support.gate import Gate
from toolkit.bundle.format import open_bundle
from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime

METRICS: weakref.WeakKeyDictionary[Engine, Metrics] = weakref.WeakKeyDictionary()


def load(path: Path) -> tuple[Predictor, Gate]:
    bundle = open_bundle(path)
    gate = Gate(OnnxRuntime(bundle.weights, threads=1, spinning=False))
    return Predictor(bundle, gate), gate


def run_engine(path: Path, work: Callable[[Engine, Gate], Awaitable[None]], **limits: int) -> Metrics:
    """Run `work` with an engine and close it; nothing may be in flight or queued afterwards."""

    async def main() -> Metrics:
        predictor, gate = load(path)
        metrics, accepted = Metrics(), Limits(**({"workers": 1} | limits))
        engine = Engine(predictor, accepted, metrics, WorkerPool(accepted.workers, metrics.queue_size))
        METRICS[engine] = metrics
        try:
            async with asyncio.timeout(60):
                await work(engine, gate)
        finally:
            gate.open()
            await engine.close()
            await engine.workers.close()
        assert (engine.in_flight, engine.queued(), queue_size(engine)) == (0, 0, 0)
        return metrics

    return asyncio.run(main())


def queue_size(engine: Engine) -> float:
    value = METRICS[engine].registry.get_sample_value("te_queue_size")
    assert value is not None
    return value


def id_sum(engine: Engine, text: str, pair: str | None = None) -> float:
    encoded = engine.predictor.encoder.encode([text], None if pair is None else [pair])
    return float(encoded.ids[0].sum())


def single(text: str) -> list[Text]:
    return [(text, None)]


async def queued(engine: Engine, *texts: str, timeout_ms: int | None = None) -> list[asyncio.Task[EngineResult]]:
    """A request per text, submitted one after the other, each waiting in the queue when this returns."""
    tasks = []
    for text in texts:
        before = queue_size(engine)
        tasks.append(asyncio.create_task(engine.predict(single(text), timeout_ms=timeout_ms)))
        while queue_size(engine) == before:
            await asyncio.sleep(0.001)
    return tasks
