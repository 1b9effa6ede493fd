"""The engine: every request gets its own answer, within limits, in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from serve.engine.engine import BATCH_SECONDS, Engine
from serve.engine.tokenization import Text
from serve.exceptions import ServeError
from tests.support.data import rows
from tests.support.engine import id_sum, queue_size, queued, run_engine, single
from tests.support.gate import Gate


def test_every_concurrent_request_gets_its_own_answer(bundles: dict[str, Path]) -> None:
    texts = list(dict.fromkeys(text for text, _ in rows(600, seed=11)))
    requests = [texts[i : i + size] for i, size in zip(range(0, 500, 3), [1, 2, 3] * 200, strict=False)]
    assert len(requests) > 150

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        asked: list[list[Text]] = [
            [(text, None if i % 2 else "a plot") for i, text in enumerate(request)] for request in requests
        ]
        answers = await asyncio.gather(*(engine.predict(request) for request in asked))
        for request, answer in zip(asked, answers, strict=True):
            assert answer.logits[:, 0].tolist() == [id_sum(engine, *text) for text in request]
        assert len(gate.batches) < sum(map(len, asked))  # some did share a batch

    run_engine(bundles["sum"], work, workers=3, max_batch_tokens=100, max_batch_requests=5)


def test_real_scores_under_concurrency_are_the_predictors(tiny_onnx: Path) -> None:
    texts = [text for text, _ in rows(120, seed=12)]

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        answers = await asyncio.gather(*(engine.predict(single(text)) for text in texts))
        expected = engine.predictor.logits(engine.predictor.encoder.encode(texts), batch_size=1)
        assert np.allclose(np.concatenate([answer.logits for answer in answers]), expected, atol=1e-4)
        assert len(np.unique(expected.round(3), axis=0)) > 100  # a mix-up would show

    run_engine(tiny_onnx, work, workers=3)


def test_an_idle_server_does_not_wait_and_a_busy_one_batches(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()  # alone, with nobody to wait for
        waiting = await queued(engine, *["bad"] * 7)
        gate.open()
        await asyncio.gather(first, *waiting)
        assert [len(batch["input_ids"]) for batch in gate.batches] == [1, 7]

    metrics = run_engine(bundles["sum"], work)
    sample = metrics.registry.get_sample_value
    assert [sample(f"te_batch_next_size_{of}", {"model": "model"}) for of in ("count", "sum")] == [2, 8]


def test_a_request_of_many_inputs_lets_others_pass_and_is_not_passed_for_ever(bundles: dict[str, Path]) -> None:
    """Each input takes 3 s: the third lets those pass that come within 8 times 6 s, unless its own time runs out."""

    async def work(engine: Engine, gate: Gate) -> None:
        engine.latency.observe(3, 3.0)
        assert engine._patience_s([3, 3, 3], 1e6) == pytest.approx([0, 24, 48])
        assert engine._patience_s([3, 3, 3], 30.0) == pytest.approx([0, 21, 21])
        engine.workers.clock = lambda: now
        now = 1000.0
        tasks = [asyncio.create_task(engine.predict(single("good"), timeout_ms=600_000))]
        await gate.wait_started()
        many = asyncio.create_task(engine.predict(single("bad") * 3, timeout_ms=600_000))
        while queue_size(engine) < 3:
            await asyncio.sleep(0.001)
        for seconds, text in ((10, "dull film"), (40, "awful film"), (50, "cold film")):
            now = 1000.0 + seconds
            tasks += await queued(engine, text, timeout_ms=600_000)
        gate.open()
        await asyncio.gather(many, *tasks)
        order = [engine.predictor.encoder.tokens(batch["input_ids"][0])[1] for batch in gate.batches]
        assert order == ["good", "bad", "dull", "bad", "awful", "bad", "cold"]

    run_engine(bundles["sum"], work, max_batch_requests=1)


def test_a_batch_is_bounded_by_its_expected_seconds(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        engine.workers.clock = lambda: 0.0
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        waiting = await queued(engine, *["bad"] * 12)
        for tokens in (10, 20):
            engine.latency.observe(tokens, tokens * BATCH_SECONDS / 16)  # 16 tokens hold five of these inputs
        gate.open()
        await asyncio.gather(running, *waiting)
        assert [len(batch["input_ids"]) for batch in gate.batches][:2] == [1, 5]

    run_engine(bundles["sum"], work)


def test_overload_is_refused_before_any_work_and_passes(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        waiting = await queued(engine, "bad", "dull")
        with pytest.raises(ServeError) as refused:
            await engine.predict(single("awful") * 2)  # 3 in flight, 4 accepted: two more do not fit, whole or in part
        assert (refused.value.error_type, refused.value.status) == ("Overloaded", 429)
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert engine.in_flight == 3
        waiting += await queued(engine, "awful")
        gate.open()
        await asyncio.gather(running, *waiting)
        assert (await engine.predict(single("awful") * 2)).logits.shape == (2, 1)

    run_engine(bundles["sum"], work, max_concurrent_requests=4, max_client_batch_size=4)


def test_what_is_not_answered_in_time_ends_and_never_runs(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        late = asyncio.create_task(engine.predict(single("film film film film") * 2, timeout_ms=50))
        (kept,) = await queued(engine, "bad")
        with pytest.raises(ServeError, match="no answer within 50 ms") as over:
            await late
        assert (over.value.error_type, over.value.status) == ("Timeout", 504)
        assert (queue_size(engine), engine.in_flight) == (1, 2)
        gate.open()
        await running
        assert (await kept).logits[0, 0] == id_sum(engine, "bad")
        assert [batch["input_ids"].shape for batch in gate.batches] == [(1, 3), (1, 3)]

    run_engine(bundles["sum"], work)


def test_what_runs_when_its_time_is_over_ends_too(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        with pytest.raises(ServeError, match="no answer within 50 ms"):
            await engine.predict(single("good"))
        (kept,) = await queued(engine, "bad")
        kept.cancel()
        gate.open()
        assert (await engine.predict(single("dull"), timeout_ms=30_000)).logits[0, 0] == id_sum(engine, "dull")

    run_engine(bundles["sum"], work, timeout_ms=50)


def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(bundles: dict[str, Path]) -> None:
    """One batch of 3 tokens runs and one is queued, at 10 s a token and 20 s a batch: 100 s of work ahead."""

    async def work(engine: Engine, gate: Gate) -> None:
        encode, encoded = engine.predictor.encoder.encode, list[list[str]]()
        engine.predictor.encoder.encode = lambda texts, *rest: (encoded.append(texts), encode(texts, *rest))[1]  # type: ignore[method-assign,func-returns-value]
        engine.latency.observe(10, 120.0)
        engine.latency.observe(20, 220.0)
        engine.workers.clock = lambda: now
        now = 1000.0
        running = asyncio.create_task(engine.predict(single("good"), timeout_ms=600_000))
        await gate.wait_started()
        (waiting,) = await queued(engine, "bad", timeout_ms=600_000)
        with pytest.raises(ServeError, match="about 9500 ms after the deadline") as refused:
            await engine.predict(single("dull"), timeout_ms=90_500)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "10"})
        assert encoded == [["good"], ["bad"]]  # the work ahead was enough to tell
        with pytest.raises(ServeError, match="about 39500 ms after the deadline"):
            await engine.predict(single("dull"), timeout_ms=110_500)  # 100 s of others, 50 s of its own
        assert engine.in_flight == 2
        now = 1040.0  # of the running batch 10 s are left: 60 s of others
        (late,) = await queued(engine, "dull", timeout_ms=111_000)
        now = 1500.0  # an estimate that was too short counts as nothing, not as negative work
        assert engine.workers.wait_s() == pytest.approx(20 + 6 * 10)
        gate.open()
        assert len(await asyncio.gather(running, waiting, late)) == 3

    run_engine(bundles["sum"], work)


def test_tokenization_that_would_end_too_late_is_refused_before_it_begins(bundles: dict[str, Path]) -> None:
    """The threads have 40 s of work, and a text of 2,000 characters takes another 2 s."""
    long = "good " * 400

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        engine._tokenization.latency.observe(1000, 1.0)
        assert (await engine.predict(single(long))).tokens == 32  # idle threads refuse nothing
        engine._tokenization.latency.observe(1000, 1.0)
        assert engine._tokenization.expected_s(single(long)) == 0
        engine.workers.tokenization_backlog.seconds = 40.0
        running = asyncio.create_task(engine.predict(single("good")))
        await asyncio.sleep(0)
        with pytest.raises(ServeError, match="after the deadline") as refused:
            await engine.predict(single(long), timeout_ms=20_000)
        assert refused.value.status == 429
        assert engine.workers.tokenization_backlog.seconds == 40.0
        assert (await engine.predict(single("bad"), timeout_ms=20_000)).tokens == 3  # short: tokenized at once
        assert (await engine.predict(single(long), timeout_ms=100_000)).tokens == 32
        await running

    run_engine(bundles["sum"], work)


def test_a_wrong_estimate_heals(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        engine.latency.observe(10, 3600.0)
        running = asyncio.create_task(engine.predict(single("good")))  # idle: taken, whatever the estimate says
        await gate.wait_started()
        with pytest.raises(ServeError, match="after the deadline") as refused:
            await engine.predict(single("bad"))
        assert refused.value.headers == {"Retry-After": "60"}
        gate.open()
        await running
        for _ in range(400):
            await engine.predict(single("good"))
        assert engine.latency.seconds(3) < 10

    run_engine(bundles["sum"], work)


def test_a_cancelled_request_leaves_the_queue_and_never_runs(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        gone, kept = await queued(engine, "film film film film", "bad")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (queue_size(engine), engine.in_flight) == (1, 2)
        gate.open()
        await running
        assert (await kept).logits[0, 0] == id_sum(engine, "bad")
        assert [batch["input_ids"].shape for batch in gate.batches] == [(1, 3), (1, 3)]

    run_engine(bundles["sum"], work)


def test_cancelling_what_already_runs_harms_nobody(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        running.cancel()
        (kept,) = await queued(engine, "bad")
        gate.open()
        assert (await kept).logits[0, 0] == id_sum(engine, "bad")

    run_engine(bundles["sum"], work)


def test_scores_that_are_not_finite_fail_their_own_request_only(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("a")))
        await gate.wait_started()
        good, bad, mixed = [
            asyncio.create_task(engine.predict(request))
            for request in (single("a"), single("the"), single("a") + single("the"))
        ]
        while queue_size(engine) < 4:
            await asyncio.sleep(0.001)
        gate.open()
        assert np.isfinite((await running).logits).all()
        assert (await good).logits[0, 0] == pytest.approx(np.log(60 - id_sum(engine, "a")))
        for failing in (bad, mixed):
            with pytest.raises(ServeError, match="not finite") as failure:
                await failing
            assert (failure.value.error_type, failure.value.status) == ("Backend", 424)
        assert len(gate.batches[1]["input_ids"]) == 4  # they did share a batch

    run_engine(bundles["log"], work)


def test_an_input_that_makes_the_model_fail_does_not_take_its_neighbours_along(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("a")))
        await gate.wait_started()
        neighbour, poison, other = await queued(engine, "a", "the", "a")
        gate.open()
        for fine in (running, neighbour, other):
            assert (await fine).logits[0, 0] == id_sum(engine, "a")
        with pytest.raises(ServeError, match="the model failed") as failure:
            await poison
        assert failure.value.status == 424

    run_engine(bundles["small_table"], work)


def test_closing_answers_what_was_accepted_and_refuses_the_rest(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(single("good")))
        await gate.wait_started()
        waiting = await queued(engine, "bad", "dull", "awful", "cold")
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        with pytest.raises(ServeError, match="shutting down") as refused:
            await engine.predict(single("awful"))
        assert refused.value.status == 503
        assert not closing.done()
        gate.open()
        await closing
        expected = [id_sum(engine, text) for text in ("good", "bad", "dull", "awful", "cold")]
        assert [(await task).logits[0, 0] for task in (running, *waiting)] == expected

    run_engine(bundles["sum"], work, max_batch_requests=1)


def test_truncation_is_asked_for_or_refused_with_the_count(bundles: dict[str, Path]) -> None:
    text = " ".join(["good"] * 20 + ["plot"] * 20)

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        encoder = engine.predictor.encoder
        for direction in ("right", "left"):
            answer = await engine.predict(single(text), direction=direction)
            assert answer.logits[0, 0] == encoder.encode([text], None, direction).ids[0].sum()
            assert answer.tokens == 32
        assert (await engine.predict(single("good"), truncate=False)).tokens == 3
        for request, tokens in (([(text, None)], 42), ([("good", None), ("good", text)], 44), ([(text, text)], 83)):
            with pytest.raises(ServeError, match=f"has {tokens} tokens, more than the 32") as refused:
                await engine.predict(request, truncate=False)
            assert refused.value.error_type == "Validation"

    run_engine(bundles["sum"], work)
