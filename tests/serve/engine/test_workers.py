"""Threads that share the work."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serve.engine.engine import Engine
from tests.support.engine import id_sum, queued, run_engine, single
from tests.support.gate import Gate


def test_requests_that_arrive_together_run_together(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        await asyncio.gather(*(engine.predict(single(text)) for text in "abc"))
        assert [len(batch["input_ids"]) for batch in gate.batches] == [3]

    run_engine(bundles["sum"], work)


def test_idle_workers_share_one_request(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        request = asyncio.create_task(engine.predict(single("good") * 8))
        await gate.wait_started()
        await gate.wait_started()
        gate.open()
        await request
        assert [len(batch["input_ids"]) for batch in gate.batches] == [4, 4]

    run_engine(bundles["sum"], work, workers=2)


def test_a_thread_goes_on_with_what_waits_while_the_event_loop_is_busy(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(single("a")))
        await gate.wait_started()
        others = await queued(engine, "b", "c")
        gate.open()
        for _ in others:  # blocks the loop
            assert gate.started.acquire(timeout=30)
        answers = await asyncio.gather(first, *others)
        assert [float(answer.logits[0, 0]) for answer in answers] == [id_sum(engine, text) for text in "abc"]

    run_engine(bundles["sum"], work, max_batch_requests=1)
