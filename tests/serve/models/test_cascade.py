"""What keeps a fallback from harm and from doing harm: share, concurrency, time; and the headers that name it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engine.engine import Engine, EngineResult
from serve.engine.limits import Limits
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.metrics import Metrics, Outcome
from serve.models.breaker import Breaker
from serve.models.cascade import Cascade, CascadeResult, NoAnswer, Share
from toolkit.data.tokenization import Direction
from toolkit.inference.cascade import SecondAnswer
from toolkit.inference.predictor import Predictor, open_predictor

TEXTS: list[Text] = [("a good film", None), ("a dull plot", None)]


class Waiting:
    """A fallback that answers, or fails with an error, once a test lets it go on."""

    name, digest = "big", "0123456789ab"

    def __init__(self) -> None:
        self.asked, self.goes_on, self.error = list[list[Text]](), asyncio.Event(), None

    async def ask(self, texts: Sequence[Text], direction: Direction, timeout_s: float) -> SecondAnswer:
        self.asked.append(list(texts))
        await self.goes_on.wait()
        if self.error is not None:
            raise self.error
        scores = np.tile([0.25, 0.75], (len(texts), 1))
        return SecondAnswer(np.log(scores), scores, np.zeros(len(texts), dtype=bool))

    async def close(self) -> None:
        pass


class Bench:
    """A cascade over a real engine, unsure of everything but the first input."""

    def __init__(self, predictor: Predictor, timeout_s: float, concurrency: int, share: float) -> None:
        self.metrics = Metrics()
        self.engine = Engine(predictor, Limits(workers=1), self.metrics, WorkerPool(1, self.metrics.queue_size))
        self.fallback = Waiting()
        self.cascade = Cascade(
            self.fallback, timeout_s=timeout_s, concurrency=concurrency, share=Share(share, 2),
            metrics=self.metrics.fallback,
        )  # fmt: skip

    async def predict(self, texts: Sequence[Text] = TEXTS, timeout_ms: int | None = None) -> EngineResult:
        return await self.cascade.predict(
            self.engine, lambda result: np.arange(len(result.logits)) > 0, texts, truncate=True, direction="right",
            timeout_ms=timeout_ms,
        )  # fmt: skip

    async def outcome(self, timeout_ms: int | None = None) -> Outcome:
        result = await self.predict(timeout_ms=timeout_ms)
        assert isinstance(result, CascadeResult)
        assert (result.second is not None) == (result.outcome == "answered")
        return result.outcome

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def run(
    path: Path, work: Callable[[Bench], Awaitable[None]], *, timeout_s: float = 30.0, concurrency: int = 8,
    share: float = 1.0,
) -> None:  # fmt: skip
    async def main() -> None:
        bench = Bench(open_predictor(path, threads=1), timeout_s, concurrency, share)
        try:
            async with asyncio.timeout(30):
                await work(bench)
        finally:
            await bench.engine.close()
            await bench.engine.workers.close()
        assert bench.value("te_fallback_in_flight") == 0

    asyncio.run(main())


@given(st.floats(0.01, 0.99), st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=60))
def test_a_share_holds_over_every_stretch(share: float, requests: list[tuple[int, int]]) -> None:
    own, taken = Share(share, 8), list[tuple[int, int]]()
    for inputs, unsure in requests:
        own.add(inputs)
        taken.append((inputs, unsure if own.take(unsure) else 0))
    for start in range(len(taken)):
        for end in range(start + 1, len(taken) + 1):
            inputs, answered = (sum(column) for column in zip(*taken[start:end], strict=True))
            assert answered <= share * inputs + 8 + 1e-6


def test_a_share_is_used_up_and_one_is_no_bound() -> None:
    half, whole, granted = Share(0.5, 2), Share(1.0, 2), 0
    for _ in range(100):
        half.add(1)
        granted += half.take(1)
        assert all(whole.take(2) for _ in range(3))
    assert granted == pytest.approx(52, abs=1), "2 at once, then every other one"


def test_only_what_is_unsure_goes_on_and_comes_back_in_its_place(tiny_onnx: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.fallback.goes_on.set()
        sure = await bench.predict(TEXTS[:1])
        assert type(sure) is EngineResult
        assert bench.fallback.asked == []
        result = await bench.predict([*TEXTS, ("it is", "so so")])
        assert isinstance(result, CascadeResult)
        assert bench.fallback.asked == [[TEXTS[1], ("it is", "so so")]]
        own = np.array([[0.9, 0.1]] * 3)
        np.testing.assert_array_equal(result.merged(own, raw=False), [[0.9, 0.1], [0.25, 0.75], [0.25, 0.75]])
        np.testing.assert_allclose(np.exp(result.merged(own, raw=True)[1:]), [[0.25, 0.75]] * 2)
        assert own[1, 0] == 0.9, "not written over"
        np.testing.assert_array_equal(result.unsure, [False] * 3)
        assert bench.value("te_fallback_inputs_total", outcome="answered") == 2
        assert bench.value("te_fallback_count_total", outcome="answered") == 1
        assert bench.value("te_fallback_duration_count") == 1

    run(tiny_onnx, work)


def test_headers_name_who_answered(tiny_onnx: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.fallback.goes_on.set()
        result = await bench.predict([*TEXTS, TEXTS[0]])
        assert isinstance(result, CascadeResult)
        assert dict(result.answered_by("int8", "fedcba987654")) == {
            b"x-model": b"int8=1, big=2", b"x-model-digest": b"fedcba987654, 0123456789ab", b"x-fallback": b"answered",
        }  # fmt: skip
        bench.fallback.error = NoAnswer("no", "busy")
        result = await bench.predict()
        assert isinstance(result, CascadeResult)
        assert dict(result.answered_by("int8", "fedcba987654")) == {
            b"x-model": b"int8", b"x-model-digest": b"fedcba987654", b"x-fallback": b"busy",
        }  # fmt: skip

    run(tiny_onnx, work)


def test_no_more_requests_at_once_than_it_may_get(tiny_onnx: Path) -> None:
    async def work(bench: Bench) -> None:
        waiting = [asyncio.create_task(bench.outcome()) for _ in range(2)]
        while len(bench.fallback.asked) < 2:
            await asyncio.sleep(0.001)
        assert bench.value("te_fallback_in_flight") == 2
        assert await bench.outcome() == "busy"
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        bench.fallback.goes_on.set()
        assert (await waiting[1], await bench.outcome()) == ("answered", "answered")

    run(tiny_onnx, work, concurrency=2)


def test_no_more_inputs_than_its_share(tiny_onnx: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.fallback.goes_on.set()
        outcomes = [await bench.outcome() for _ in range(12)]  # 24 inputs, every other one unsure
        assert outcomes.count("answered") == 7, "2 at once, and a quarter of 22: what comes to a full store is lost"
        assert set(outcomes) == {"answered", "share"}

    run(tiny_onnx, work, share=0.25)


def test_its_own_time_counts_against_it_and_a_client_s_does_not(tiny_onnx: Path) -> None:
    """The request ends in time in both cases; an error of any kind is no failure of the request."""

    async def patient(bench: Bench) -> None:
        bench.cascade.breaker = Breaker(failures=1)
        assert await bench.outcome(timeout_ms=500) == "timeout"
        assert bench.value("te_fallback_open") == 0

    run(tiny_onnx, patient)

    async def work(bench: Bench) -> None:
        bench.cascade.breaker = Breaker(failures=2, pause_s=0.0)
        assert [await bench.outcome() for _ in range(2)] == ["timeout", "timeout"]
        assert bench.value("te_fallback_open") == 1
        trial = asyncio.create_task(bench.outcome())
        while len(bench.fallback.asked) < 3:
            await asyncio.sleep(0.001)
        assert await bench.outcome() == "open", "one try at a time"
        trial.cancel()
        bench.fallback.goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await trial
        bench.fallback.error = NoAnswer("these texts", faulty=False)
        assert await bench.outcome() == "error"
        assert bench.value("te_fallback_open") == 1
        bench.fallback.error = None
        assert await bench.outcome() == "answered"
        assert bench.value("te_fallback_open") == 0
        for error in (ZeroDivisionError("?"), NoAnswer("broken")):
            bench.fallback.error = error
            assert await bench.outcome() == "error"
        assert bench.value("te_fallback_open") == 1

    run(tiny_onnx, work, timeout_s=0.05)
