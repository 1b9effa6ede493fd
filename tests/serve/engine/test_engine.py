"""The engine: every request gets its own answer, within limits, in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve.engine.engine import Engine, EngineResult
from serve.engine.latency_model import LatencyModel
from serve.engine.limits import Limits
from serve.engine.queue import MAX_PADDING
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics
from tests.support.arithmetic_bundles import LOG, SMALL_TABLE, SUM, save_arithmetic
from tests.support.data import rows
from tests.support.gate import Gate
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor
from toolkit.inference.runtimes import OnnxRuntime

METRICS: weakref.WeakKeyDictionary[Engine, Metrics] = weakref.WeakKeyDictionary()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("arithmetic")
    graphs = {"sum": SUM, "log": LOG, "small_table": SMALL_TABLE}
    return {name: save_arithmetic(folder / name, tokenizer, graph) for name, graph in graphs.items()}


def load(path: Path) -> tuple[Predictor, Gate]:
    bundle = open_bundle(path)
    gate = Gate(OnnxRuntime(bundle.weights, threads=1, spinning=False))
    return Predictor(bundle, gate), gate


def serve(path: Path, work: Callable[[Engine, Gate], Awaitable[None]], **limits: int) -> Metrics:
    """Run `work` with an engine and close it; nothing may be in flight or queued afterwards."""

    async def main() -> Metrics:
        predictor, gate = load(path)
        metrics, accepted = Metrics(), Limits(**({"workers": 1} | limits))
        engine = Engine(predictor, accepted, metrics, WorkerPool(accepted.workers, metrics))
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


def one(text: str) -> list[Text]:
    return [(text, None)]


async def queued(engine: Engine, *texts: str, timeout_ms: int | None = None) -> list[asyncio.Task[EngineResult]]:
    """A request per text, submitted one after the other, each waiting in the queue when this returns."""
    tasks = []
    for text in texts:
        before = queue_size(engine)
        tasks.append(asyncio.create_task(engine.predict(one(text), timeout_ms=timeout_ms)))
        while queue_size(engine) == before:
            await asyncio.sleep(0.001)
    return tasks


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

    serve(bundles["sum"], work, workers=3, max_batch_tokens=100, max_batch_requests=5)


def test_real_scores_under_concurrency_are_the_predictors(tiny_onnx: Path) -> None:
    texts = [text for text, _ in rows(120, seed=12)]

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        answers = await asyncio.gather(*(engine.predict(one(text)) for text in texts))
        expected = engine.predictor.logits(engine.predictor.encoder.encode(texts), batch_size=1)
        assert np.allclose(np.concatenate([answer.logits for answer in answers]), expected, atol=1e-4)
        assert len(np.unique(expected.round(3), axis=0)) > 100  # a mix-up would show

    serve(tiny_onnx, work, workers=3)


def test_an_idle_server_does_not_wait_and_a_busy_one_batches(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()  # alone, with nobody to wait for
        others = await queued(engine, *["bad"] * 7)
        gate.open()
        await asyncio.gather(first, *others)
        assert [len(batch["input_ids"]) for batch in gate.batches] == [1, 7]

    metrics = serve(bundles["sum"], work)
    sample = metrics.registry.get_sample_value
    assert [sample(f"te_batch_next_size_{of}", {"model": "model"}) for of in ("count", "sum")] == [2, 8]


def test_requests_that_arrive_together_run_together(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        await asyncio.gather(*(engine.predict(one(text)) for text in "abc"))
        assert [len(batch["input_ids"]) for batch in gate.batches] == [3]

    serve(bundles["sum"], work)


def test_idle_workers_share_one_request(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        request = asyncio.create_task(engine.predict(one("good") * 8))
        await gate.wait_started()
        await gate.wait_started()
        gate.open()
        await request
        assert [len(batch["input_ids"]) for batch in gate.batches] == [4, 4]

    serve(bundles["sum"], work, workers=2)


def test_batches_keep_to_the_limits_and_the_oldest_goes_first(bundles: dict[str, Path]) -> None:
    lengths = np.random.default_rng(5).integers(1, 29, 150).tolist()

    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()
        others = await queued(engine, *(" ".join(["plot"] * length) for length in lengths))
        gate.open()
        await asyncio.gather(first, *others)
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

    serve(bundles["sum"], work, max_batch_tokens=96, max_batch_requests=6)


def test_overload_is_refused_before_any_work_and_passes(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()
        waiting = await queued(engine, "bad", "dull")
        with pytest.raises(ServeError) as refused:
            await engine.predict(one("awful") * 2)  # 3 in flight, 4 accepted: two more do not fit, whole or in part
        assert (refused.value.error_type, refused.value.status) == ("Overloaded", 429)
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert engine.in_flight == 3
        waiting += await queued(engine, "awful")
        gate.open()
        await asyncio.gather(running, *waiting)
        assert (await engine.predict(one("awful") * 2)).logits.shape == (2, 1)

    serve(bundles["sum"], work, max_concurrent_requests=4, max_client_batch_size=4)


def test_what_is_not_answered_in_time_ends_and_never_runs(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()
        late = asyncio.create_task(engine.predict(one("film film film film") * 2, timeout_ms=50))
        (kept,) = await queued(engine, "bad")
        with pytest.raises(ServeError, match="no answer within 50 ms") as over:
            await late
        assert (over.value.error_type, over.value.status) == ("Timeout", 504)
        assert (queue_size(engine), engine.in_flight) == (1, 2)
        gate.open()
        await running
        assert (await kept).logits[0, 0] == id_sum(engine, "bad")
        assert [batch["input_ids"].shape for batch in gate.batches] == [(1, 3), (1, 3)]

    serve(bundles["sum"], work)


def test_what_runs_when_its_time_is_over_ends_too(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        with pytest.raises(ServeError, match="no answer within 50 ms"):
            await engine.predict(one("good"))
        (kept,) = await queued(engine, "bad")
        kept.cancel()
        gate.open()
        assert (await engine.predict(one("dull"), timeout_ms=30_000)).logits[0, 0] == id_sum(engine, "dull")

    serve(bundles["sum"], work, timeout_ms=50)


def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(bundles: dict[str, Path]) -> None:
    """One batch of 3 tokens runs and one is queued, at 10 s a token and 20 s a batch: 100 s of work ahead."""

    async def work(engine: Engine, gate: Gate) -> None:
        encode, encoded = engine.predictor.encoder.encode, list[list[str]]()
        engine.predictor.encoder.encode = lambda texts, *rest: (encoded.append(texts), encode(texts, *rest))[1]  # type: ignore[method-assign,func-returns-value]
        engine.cost.observe(10, 120.0)
        engine.cost.observe(20, 220.0)
        engine.workers.clock = lambda: now
        now = 1000.0
        running = asyncio.create_task(engine.predict(one("good"), timeout_ms=600_000))
        await gate.wait_started()
        (waiting,) = await queued(engine, "bad", timeout_ms=600_000)
        with pytest.raises(ServeError, match="about 9500 ms after the deadline") as refused:
            await engine.predict(one("dull"), timeout_ms=90_500)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "10"})
        assert encoded == [["good"], ["bad"]]  # the work ahead was enough to tell
        with pytest.raises(ServeError, match="about 39500 ms after the deadline"):
            await engine.predict(one("dull"), timeout_ms=110_500)  # 100 s of others, 50 s of its own
        assert engine.in_flight == 2
        now = 1040.0  # of the running batch 10 s are left: 60 s of others
        (late,) = await queued(engine, "dull", timeout_ms=111_000)
        now = 1500.0  # an estimate that was too short counts as nothing, not as negative work
        assert engine.workers.wait_s() == pytest.approx(20 + 6 * 10)
        gate.open()
        assert len(await asyncio.gather(running, waiting, late)) == 3

    serve(bundles["sum"], work)


def test_a_wrong_estimate_heals(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        engine.cost.observe(10, 3600.0)
        running = asyncio.create_task(engine.predict(one("good")))  # idle: taken, whatever the estimate says
        await gate.wait_started()
        with pytest.raises(ServeError, match="after the deadline") as refused:
            await engine.predict(one("bad"))
        assert refused.value.headers == {"Retry-After": "60"}
        gate.open()
        await running
        for _ in range(400):
            await engine.predict(one("good"))
        assert engine.cost.seconds(3) < 10

    serve(bundles["sum"], work)


def test_the_cost_of_a_batch_is_learnt() -> None:
    cost = LatencyModel()
    assert (cost.line(), cost.seconds(1000)) == ((0.0, 0.0), 0.0)
    cost.observe(10, 0.5)
    assert cost.line() == pytest.approx((0.05, 0.0))
    for tokens in (20, 40, 80, 10):
        cost.observe(tokens, 0.3 + 0.02 * tokens)
    assert cost.line() == pytest.approx((0.02, 0.3), rel=1e-6)
    assert cost.seconds(100, batches=3) == pytest.approx(2.9)
    for _ in range(600):  # the machine got twice as slow
        for tokens in (20, 40):
            cost.observe(tokens, 0.6 + 0.04 * tokens)
    assert cost.line() == pytest.approx((0.04, 0.6), rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0, 100)), min_size=1, max_size=60))
def test_costs_are_never_negative(batches: list[tuple[int, float]]) -> None:
    cost = LatencyModel()
    for tokens, seconds in batches:
        cost.observe(tokens, seconds)
    slope, start = cost.line()
    assert slope >= 0
    assert start >= 0
    assert np.isfinite(cost.seconds(10**6, 100))


def test_a_cancelled_request_leaves_the_queue_and_never_runs(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("good")))
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

    serve(bundles["sum"], work)


def test_cancelling_what_already_runs_harms_nobody(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()
        running.cancel()
        (kept,) = await queued(engine, "bad")
        gate.open()
        assert (await kept).logits[0, 0] == id_sum(engine, "bad")

    serve(bundles["sum"], work)


def test_scores_that_are_not_finite_fail_their_own_request_only(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("a")))
        await gate.wait_started()
        good, bad, mixed = [
            asyncio.create_task(engine.predict(request)) for request in (one("a"), one("the"), one("a") + one("the"))
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

    serve(bundles["log"], work)


def test_an_input_that_makes_the_model_fail_does_not_take_its_neighbours_along(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("a")))
        await gate.wait_started()
        neighbour, poison, other = await queued(engine, "a", "the", "a")
        gate.open()
        for fine in (running, neighbour, other):
            assert (await fine).logits[0, 0] == id_sum(engine, "a")
        with pytest.raises(ServeError, match="the model failed") as failure:
            await poison
        assert failure.value.status == 424

    serve(bundles["small_table"], work)


def test_closing_answers_what_was_accepted_and_refuses_the_rest(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        running = asyncio.create_task(engine.predict(one("good")))
        await gate.wait_started()
        waiting = await queued(engine, "bad", "dull", "awful", "cold")
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        with pytest.raises(ServeError, match="shutting down") as refused:
            await engine.predict(one("awful"))
        assert refused.value.status == 503
        assert not closing.done()
        gate.open()
        await closing
        expected = [id_sum(engine, text) for text in ("good", "bad", "dull", "awful", "cold")]
        assert [(await task).logits[0, 0] for task in (running, *waiting)] == expected

    serve(bundles["sum"], work, max_batch_requests=1)


def test_truncation_is_asked_for_or_refused_with_the_count(bundles: dict[str, Path]) -> None:
    text = " ".join(["good"] * 20 + ["plot"] * 20)

    async def work(engine: Engine, gate: Gate) -> None:
        gate.open()
        encoder = engine.predictor.encoder
        for direction in ("right", "left"):
            answer = await engine.predict(one(text), direction=direction)
            assert answer.logits[0, 0] == encoder.encode([text], None, direction).ids[0].sum()
            assert answer.tokens == 32
        assert (await engine.predict(one("good"), truncate=False)).tokens == 3
        for request, tokens in (([(text, None)], 42), ([("good", None), ("good", text)], 44), ([(text, text)], 83)):
            with pytest.raises(ServeError, match=f"has {tokens} tokens, more than the 32") as refused:
                await engine.predict(request, truncate=False)
            assert refused.value.error_type == "Validation"

    serve(bundles["sum"], work)


def test_limits_that_cannot_work_are_all_named() -> None:
    limits = Limits(max_concurrent_requests=8, max_client_batch_size=9, max_batch_tokens=127, workers=0)
    with pytest.raises(ToolkitError) as error:
        limits.check(max_length=128)
    for name in ("workers 0", "max_batch_tokens 127", "max_client_batch_size 9"):
        assert name in str(error.value)
    Limits(max_batch_tokens=128).check(max_length=128)


def test_a_thread_goes_on_with_what_waits_while_the_event_loop_is_busy(bundles: dict[str, Path]) -> None:
    async def work(engine: Engine, gate: Gate) -> None:
        first = asyncio.create_task(engine.predict(one("a")))
        await gate.wait_started()
        others = await queued(engine, "b", "c")
        gate.open()
        for _ in others:  # blocks the loop
            assert gate.started.acquire(timeout=30)
        answers = await asyncio.gather(first, *others)
        assert [float(answer.logits[0, 0]) for answer in answers] == [id_sum(engine, text) for text in "abc"]

    serve(bundles["sum"], work, max_batch_requests=1)
