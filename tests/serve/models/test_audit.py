"""The audit of sure answers: who is asked and when, what is counted, and that it never holds anything up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.engine import EngineResult
from serve.engine.limits import Limits
from serve.metrics import Metrics
from serve.models.audit import MOST_CHARACTERS, MOST_WAITING, Audit, SureAnswer
from serve.models.cascade import Cascade, CascadeResult, NoAnswer, Share
from serve.models.fallback import FallbackSource
from serve.models.loading import load_predictor
from tests.serve.models.conftest import TEXTS
from tests.serve.models.test_cascade import Waiting
from tests.support.gate import Gate
from tests.support.responses import sample
from tests.support.server import exit_of
from toolkit.config import ServeConfig
from toolkit.inference.predictor import Predictor, open_predictor

ONE = Limits(workers=1)
SURE = [SureAnswer((text, None), "right", number % 2) for number, text in enumerate(TEXTS)]


class Bench:
    """An audit beside a cascade, whose fallback says label 1 once it goes on."""

    def __init__(self, share: float = 1.0) -> None:
        self._metrics, self.fallback = Metrics(), Waiting()
        self.cascade = Cascade(
            self.fallback, timeout_s=30.0, concurrency=1, share=Share(share, 2), metrics=self._metrics.fallback
        )
        self.audit = Audit(self.cascade, 1.0, self._metrics.audits("films"))

    def counts(self) -> dict[str, float]:
        """Outcomes that occurred."""
        (family,) = [family for family in self._metrics.registry.collect() if family.name == "te_audit_count"]
        samples = [own for own in family.samples if own.name.endswith("_total") and own.value]
        assert all(own.labels["model"] == "films" for own in samples)
        return {own.labels["outcome"]: own.value for own in samples}

    async def counted(self, number: int) -> dict[str, float]:
        while sum(self.counts().values()) < number:
            await asyncio.sleep(0.001)
        return self.counts()


def run(work: Callable[[Bench], Awaitable[None]], **options: float) -> None:
    async def main() -> None:
        bench = Bench(**options)
        async with asyncio.timeout(30):
            await work(bench)
            await bench.audit.close()

    asyncio.run(main())


def test_both_labels_are_compared_one_text_at_a_time() -> None:
    async def work(bench: Bench) -> None:
        await bench.audit.add(SURE[:5])
        while not bench.fallback.asked:
            await asyncio.sleep(0.001)
        assert bench.fallback.asked == [[SURE[0].text]]
        bench.fallback.goes_on.set()
        assert await bench.counted(5) == {"disagreed": 3, "agreed": 2}, "labels 0, 1, 0, 1, 0"
        await bench.audit.add(SURE[5:6])
        assert await bench.counted(6) == {"disagreed": 3, "agreed": 3}, "an audit that was done begins again"

    run(work)


def test_what_is_too_much_is_dropped() -> None:
    async def work(bench: Bench) -> None:
        await bench.audit.add(SURE[:1])
        while not bench.fallback.asked:
            await asyncio.sleep(0.001)
        await bench.audit.add(SURE[:1] * (MOST_WAITING + 3))
        assert bench.counts() == {"full": 3}
        await bench.audit.close()
        assert bench.counts() == {"full": 3, "drain": MOST_WAITING + 1}, "the one under way too"
        await bench.audit.add(SURE[:2])
        assert bench.counts() == {"full": 3, "drain": MOST_WAITING + 3}
        assert len(bench.fallback.asked) == 1

    run(work)

    async def long(bench: Bench) -> None:
        half = SureAnswer(("x" * (MOST_CHARACTERS // 2), "y"), "right", 1)
        await bench.audit.add([half, half])
        assert bench.counts() == {"full": 1}
        bench.fallback.goes_on.set()
        assert await bench.counted(2) == {"full": 1, "agreed": 1}
        await bench.audit.add([half])
        assert await bench.counted(3) == {"full": 1, "agreed": 2}

    run(long)


def test_it_keeps_away_where_the_fallback_may_not_be_asked_and_does_not_open_the_breaker() -> None:
    async def work(bench: Bench) -> None:
        bench.fallback.goes_on.set()
        for error, outcome in (
            (NoAnswer("no"), "error"), (NoAnswer("later", "busy"), "busy"), (TimeoutError(), "timeout"),
            (ZeroDivisionError(), "error"),
        ):  # fmt: skip
            before = bench.counts().get(outcome, 0)
            bench.fallback.error = error  # type: ignore[assignment]
            await bench.audit.add(SURE[:2])
            while bench.counts().get(outcome, 0) < before + 2:
                await asyncio.sleep(0.001)
        assert not bench.cascade.breaker.open, "eight failures in a row"
        asked = len(bench.fallback.asked)
        for _ in range(5):
            bench.cascade.breaker.begin()
            bench.cascade.breaker.end(False)
        await bench.audit.add(SURE[:3])
        assert (await bench.counted(11))["open"] == 3
        assert len(bench.fallback.asked) == asked

    run(work)

    async def poor(bench: Bench) -> None:
        bench.fallback.goes_on.set()
        await bench.audit.add(SURE[:5])
        assert await bench.counted(5) == {"disagreed": 1, "agreed": 1, "share": 3}

    run(poor, share=0.1)


def test_only_sure_inputs_are_drawn_by_chance_alone() -> None:
    metrics, fallback = Metrics(), Waiting()
    cascade = Cascade(fallback, timeout_s=1.0, concurrency=1, share=Share(1.0, 2), metrics=metrics.fallback)
    counters, texts = metrics.audits("films"), [(str(number), None) for number in range(4000)]
    logits = np.tile([[0.0, 1.0]], (4000, 1)).astype(np.float32)
    result = EngineResult(logits, [], 0, False, 0.0, 0.0, 0.0)

    def drawn(seed: int, result: EngineResult = result) -> list[SureAnswer]:
        task = Audit(cascade, 0.1, counters, Random(seed)).draw(texts, result, "left")
        return list(task.args[0]) if task else []  # type: ignore[call-overload]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 330 < len(drawn(1)) < 470, "400 expected, standard deviation 19"
    assert {(answer.direction, answer.label) for answer in drawn(1)} == {("left", 1)}
    rows = np.arange(1000, 4000)
    partly = CascadeResult(**vars(result), rows=rows, outcome="share", fallback=fallback, second=None)
    assert {int(answer.text[0]) for answer in drawn(1, partly)} <= set(range(1000))
    assert Audit(cascade, 0.0, counters).draw(texts, result, "right") is None


@pytest.fixture(scope="module")
def config(overconfident: Path, big: Path, threshold: float) -> ServeConfig:
    return ServeConfig((f"films={overconfident}",), threshold=threshold, fallback=str(big), audit_share=1.0)


def test_a_server_counts_how_often_both_agree(
    config: ServeConfig, overconfident: Path, scores: np.ndarray, threshold: float
) -> None:
    with TestClient(create_app(config=config, limits=ONE)) as client:
        assert client.post("/predict", json={"inputs": [[text] for text in TEXTS]}).status_code == 200
        sure = scores >= threshold
        best = open_predictor(overconfident, threads=1).predict(TEXTS).argmax(axis=1)
        negative = int((sure & (best == 0)).sum())  # as the second model says of every text
        expected = {"agreed": negative, "disagreed": int(sure.sum()) - negative}
        while any(sample(client, "te_audit_count", model="films", outcome=o) < n for o, n in expected.items()):
            pass
        assert {o: sample(client, "te_audit_count", model="films", outcome=o) for o in expected} == expected
        assert sample(client, "te_fallback_inputs", outcome="answered") == int((~sure).sum()), "audits are no requests"
    with TestClient(create_app(config=replace(config, audit_share=0.0), limits=ONE)) as client:
        client.post("/predict", json={"inputs": TEXTS[0]})
        assert "te_audit" not in client.get("/metrics").text


def test_a_second_model_that_hangs_holds_up_no_answer(config: ServeConfig, big: Path, scores: np.ndarray) -> None:
    loaded = load_predictor(big)
    gate = Gate(loaded.runtime)
    source = FallbackSource("big", Predictor(loaded.bundle, gate))
    sure = TEXTS[int(np.argmax(scores))]
    patient = replace(config, fallback_timeout_ms=60_000)
    with TestClient(create_app(config=patient, limits=ONE, fallback=source)) as client:
        for _ in range(MOST_WAITING + 10):
            response = client.post("/predict", json={"inputs": sure})
            assert (response.status_code, response.headers["x-model"]) == (200, "films")
        assert len(gate.batches) == 1, "the first text is asked about, and hangs"
        assert sample(client, "te_audit_count", model="films", outcome="full") == 9
        assert sample(client, "te_fallback_in_flight") == 0
        gate.open()


def test_a_share_that_cannot_be_is_refused(overconfident: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, shown in (
        (("--audit-share", "1.5", "--fallback", "http://127.0.0.1:1/predict"), "--audit-share 1.5: expected 0 to 1"),
        (("--audit-share", "0.5"), "--audit-share without --fallback"),
    ):
        code, said = exit_of(capsys, str(overconfident), "--port", "0", *options)
        assert code == 2
        assert shown in " ".join(said.split())
