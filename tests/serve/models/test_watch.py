"""Labels, confidence and drift in /metrics, counted from real requests to the real application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.app import create_app
from serve.engine.engine import EngineResult
from serve.engine.limits import Limits
from serve.metrics import Metrics
from serve.models import watch
from serve.models.drift import LEAST_INPUTS
from serve.models.watch import MOST_LABELS, NONE, OTHER, Answered, Watch
from tests.support.arithmetic_bundles import RANKS, save_arithmetic
from tests.support.data import rows
from tests.support.responses import sample
from toolkit.config import ServeConfig
from toolkit.inference.predictor import Predictor, open_predictor
from toolkit.tasks import Task

TRAITS = ("labels", "confidence", "length", "unknown")
SAME = [text for text, _ in rows(1024, seed=33)]


def post(client: TestClient, texts: list[str], path: str = "/predict") -> None:
    for start in range(0, len(texts), 32):
        assert client.post(path, json={"inputs": [[text] for text in texts[start : start + 32]]}).status_code == 200


@pytest.fixture
def client(watched: Path, arithmetic: dict[str, Path]) -> Iterator[TestClient]:
    app = create_app({"films": watched, "sum": arithmetic["sum"]}, limits=Limits(workers=1))
    with TestClient(app) as client:
        yield client


def test_labels_and_confidence_are_those_of_the_answers(client: TestClient, watched: Path) -> None:
    texts = SAME[:40]
    post(client, texts)
    client.post("/predict", json={"inputs": []})
    best = open_predictor(watched, threads=1).predict(texts)
    for label, name in enumerate(("negative", "positive")):
        answered = (best.argmax(axis=1) == label).sum()
        assert sample(client, "te_predict_label", label=name, model="films") == answered
    assert sample(client, "te_predict_confidence_count", model="films") == 40
    assert sample(client, "te_predict_confidence_sum", model="films") == pytest.approx(best.max(axis=1).sum(), rel=1e-6)
    below = sample(client, "te_predict_confidence_bucket", le="0.6", model="films")
    assert below == (best.max(axis=1) <= 0.6).sum()


def test_drift_rises_with_texts_of_another_kind_and_not_with_the_same(client: TestClient, watched: Path) -> None:
    post(client, SAME)
    same = {trait: sample(client, "te_drift_stability_index", model="films", of=trait) for trait in TRAITS}
    assert sample(client, "te_drift_inputs", model="films") == len(SAME) > LEAST_INPUTS
    assert all(0 < same[trait] < 0.1 for trait in ("labels", "confidence", "length"))
    assert same["unknown"] == 0
    best = open_predictor(watched, threads=1).predict(SAME).argmax(axis=1)
    positive = [text for text, label in zip(SAME, best, strict=True) if label == 1][:32]
    post(client, [f"\u6f22 {text} {text}" for text in positive] * 32)
    for trait in TRAITS:
        assert sample(client, "te_drift_stability_index", model="films", of=trait) > 0.1, trait


def test_a_model_without_baseline_has_no_drift_and_a_regression_no_labels(
    client: TestClient, arithmetic: dict[str, Path]
) -> None:
    post(client, SAME[:3], "/models/sum/predict")
    shown = client.get("/metrics").text
    assert not re.search(r'te_(drift|predict_label|predict_confidence).*model="sum"', shown)
    with TestClient(create_app(arithmetic["sum"], limits=Limits(workers=1))) as alone:
        post(alone, SAME[:3])
        assert "te_drift" not in alone.get("/metrics").text


def test_an_answer_of_the_fallback_counts_as_its_own(overconfident: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    two = Task("auto", ("positive", "negative"), metrics=("accuracy",))
    big = save_arithmetic(tmp_path / "big", tokenizer, RANKS.replace("30", "2"), task=two)
    scores = open_predictor(overconfident, threads=1).predict(SAME[:32]).max(axis=1)
    threshold = float(np.median(scores))
    config = ServeConfig((f"films={overconfident}",), threshold=threshold, fallback=str(big))
    with TestClient(create_app(config=config, limits=Limits(workers=1))) as client:
        post(client, SAME[:32])
        unsure = int((scores < threshold).sum())
        assert sample(client, "te_predict_confidence_count", model="films") == 32 - unsure
        assert sample(client, "te_predict_confidence_count", model="big") == unsure > 0
        assert sample(client, "te_predict_label", label="negative", model="big") == unsure


def test_many_labels_are_shown_up_to_a_bound(tiny_onnx: Path) -> None:
    predictor, metrics = open_predictor(tiny_onnx, threads=1), Metrics()
    labels = tuple(f"label{number}" for number in range(1000))
    predictor.task = replace(predictor.task, labels=labels)
    counts = [0] * 1000
    counts[999] = 5
    predictor.baseline = {"labels": counts}  # type: ignore[typeddict-item]
    answered = Answered(predictor, metrics, "films")
    scores = np.zeros((4, 1000))
    scores[np.arange(4), [999, 0, 500, 501]] = 0.5
    answered.count(scores)
    values = {s.labels["label"]: s.value for s in metrics.labels.collect()[0].samples if s.name.endswith("_total")}
    assert len(values) == MOST_LABELS + 1
    assert {name: value for name, value in values.items() if value} == {"label999": 1, "label0": 1, OTHER: 2}


def test_a_multi_label_input_counts_with_all_of_its_labels_or_none(tiny_onnx: Path) -> None:
    predictor, metrics = open_predictor(tiny_onnx, threads=1), Metrics()
    predictor.task = replace(predictor.task, kind="multi_label")
    Answered(predictor, metrics, "films").count(np.array([[0.7, 0.6], [0.1, 0.2], [0.1, 0.5]]))
    values = {s.labels["label"]: s.value for s in metrics.labels.collect()[0].samples if s.name.endswith("_total")}
    assert values == {"negative": 1, "positive": 2, NONE: 1}


def test_what_waits_is_bounded_and_is_counted_after_a_while(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    ids = [np.arange(10)] * 50

    def counted() -> float | None:
        return metrics.registry.get_sample_value("te_predict_confidence_count", {"model": "films"})

    async def main() -> None:
        monkeypatch.setattr(watch, "WAIT_S", 0.01)
        own = Watch("films", predictor, metrics)
        result = EngineResult(np.zeros((50, 2), dtype=np.float32), ids, 500, False, 0.0, 0.0, 0.0)
        own.add(result)
        assert counted() == 0
        while counted() == 0:
            await asyncio.sleep(0.001)
        assert counted() == 50
        monkeypatch.setattr(watch, "WAIT_S", 1000.0)
        added = 1
        while counted() == 50:
            own.add(result)
            added += 1
            await asyncio.sleep(0)
        assert counted() == 50 * added
        assert 600 * (added - 2) < watch.BULK <= 600 * (added - 1), "600 logits and tokens a result"

    asyncio.run(asyncio.wait_for(main(), 30))
