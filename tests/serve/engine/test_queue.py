"""Which inputs run together, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from serve.engine.engine import Engine
from serve.engine.limits import Limits
from serve.engine.queue import MAX_PADDING, PendingRequest, Queue, QueuedInput
from serve.engine.tokenization import Tokens
from serve.exceptions import ServeError
from tests.support.engine import queued, run_engine, single
from tests.support.gate import Gate

PLENTY = 10_000  # tokens


def inputs(*lengths: int, due: Sequence[float] = ()) -> list[QueuedInput]:
    """Requests of one input each, of so many tokens."""
    ids = [np.ones(length, dtype=np.int64) for length in lengths]
    request = cast(PendingRequest, object())
    tokens = [Tokens(row_ids, row_ids, False) for row_ids in ids]
    return [QueuedInput(request, row, tokens[row], 0.0, due[row] if due else 0.0) for row in range(len(lengths))]


def test_a_batch_is_the_oldest_input_and_those_nearest_in_length() -> None:
    queue, entries = Queue(), inputs(10, 30, 11, 9, 10)
    queue.add(entries)
    assert (len(queue), queue.tokens) == (5, 70)
    assert [entry.row for entry in queue.take(3, Limits(workers=1), PLENTY)] == [
        0,
        4,
        2,
    ]  # 10, 10, then 11 before 9 by age
    assert (len(queue), queue.tokens) == (2, 39)
    assert [entry.row for entry in queue.take(3, Limits(workers=1), PLENTY)] == [1]  # 9 would be padded to 30
    assert [entry.row for entry in queue.take(3, Limits(workers=1), PLENTY)] == [3]
    assert (len(queue), queue.tokens) == (0, 0)


def test_a_batch_stays_below_its_tokens() -> None:
    queue = Queue()
    queue.add(inputs(10, 10, 10, 10))
    assert len(queue.take(9, Limits(workers=1, max_batch_tokens=29), PLENTY)) == 2
    assert len(queue.take(9, Limits(workers=1, max_batch_requests=1), PLENTY)) == 1
    queue.add(inputs(10, 10, 10))
    assert len(queue.take(9, Limits(workers=1), 39)) == 3
    queue.add(inputs(10, 10))
    assert len(queue.take(9, Limits(workers=1), 1)) == 2  # two may always run together


def test_inputs_go_in_the_order_in_which_they_are_due() -> None:
    queue = Queue()
    queue.add(inputs(10, 10, 10, due=[5.0, 6.0, 7.0]))
    queue.add(inputs(20, 20, due=[5.5, 6.0]))
    order = [queue.take(1, Limits(workers=1), PLENTY)[0] for _ in range(5)]
    assert [(entry.due, len(entry)) for entry in order] == [(5.0, 10), (5.5, 20), (6.0, 10), (6.0, 20), (7.0, 10)]


def test_a_request_is_done_with_its_last_row_or_its_first_error() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        request = PendingRequest(loop.create_future(), [None, None])
        request.deliver(1, np.zeros(2))
        assert not request.done.done()
        request.deliver(0, np.ones(2))
        assert request.done.result() is None
        failed = PendingRequest(loop.create_future(), [None, None])
        failed.deliver(0, ServeError("Backend", "broken"))
        failed.deliver(1, np.ones(2))  # too late to matter
        assert isinstance(failed.done.exception(), ServeError)

    asyncio.run(main())


def test_batches_keep_to_the_limits_and_the_oldest_goes_first(bundles: dict[str, Path]) -> None:
    lengths = np.random.default_rng(5).integers(1, 29, 150).tolist()

    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        requests = await queued(engine, *(" ".join(["plot"] * length) for length in lengths))
        gate.open()
        await asyncio.gather(first, *requests)
        waiting = [length + 2 for length in [1, *lengths]]
        for batch in gate.batches:
            real = batch["attention_mask"].sum(axis=1).tolist()
            assert waiting[0] in real, "the oldest input was passed over"
            for length in real:
                waiting.remove(length)
            size = batch["input_ids"].size
            assert size <= 96
            assert len(real) <= 6
            assert size - sum(real) <= MAX_PADDING * size
        assert waiting == []
        assert max(len(batch["input_ids"]) for batch in gate.batches) == 6

    run_engine(bundles["sum"], work, max_batch_tokens=96, max_batch_requests=6)
