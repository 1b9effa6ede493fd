"""Several models on one server: each answers under its own name, and is told apart wherever it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.api.schemas import Info
from serve.app import create_app
from serve.engine.limits import Limits
from serve.metrics import Metrics
from serve.models.loading import load_predictor
from serve.models.registry import Models
from serve.supervisor import build_app
from tests.support.gate import Gate
from tests.support.responses import error_of, sample
from toolkit.bundle.format import open_bundle
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, open_predictor

ONE = Limits(workers=1)


@pytest.fixture(scope="module")
def client(arithmetic: dict[str, Path], tiny_onnx: Path) -> Iterator[TestClient]:
    app = create_app({**arithmetic, "films": tiny_onnx}, limits=ONE)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_each_name_has_its_model_and_the_first_is_the_default(
    client: TestClient, arithmetic: dict[str, Path], tiny_onnx: Path
) -> None:
    ids = float(open_predictor(arithmetic["sum"], threads=1).encoder.encode(["good film"]).ids[0].sum())
    for path, name, score in (
        ("/predict", "sum", ids), ("/models/sum/predict", "sum", ids), ("/models/twice/predict", "twice", 2 * ids),
    ):  # fmt: skip
        response = client.post(path, json={"inputs": "good film"})
        assert response.json() == [{"score": score, "label": "score"}]
        digest = open_bundle(arithmetic[name]).digest
        assert (response.headers["x-model"], response.headers["x-model-digest"]) == (name, digest[:12])
    both = client.post("/models/films/predict", json={"inputs": [["good film"], ["a", "dull plot"]]}).json()
    expected = open_predictor(tiny_onnx, threads=1).predict(["a"], ["dull plot"])[0]
    assert {entry["label"]: entry["score"] for entry in both[1]} == pytest.approx(
        dict(zip(("negative", "positive"), expected, strict=True)), abs=1e-6
    )


def test_a_threshold_that_no_model_would_use_is_refused(arithmetic: dict[str, Path]) -> None:
    with pytest.raises(ToolkitError, match=r"--threshold 0\.9: sum is a regression model"):
        build_app(ServeConfig((str(arithmetic["sum"]),), threshold=0.9))
    build_app(ServeConfig((str(arithmetic["sum"]),)))


def test_a_model_that_is_not_there_is_404_and_names_those_that_are(client: TestClient) -> None:
    for name in ("x", "SUM", "sum%20", "%00", "%ff", "..%2fsum", "\u00fc"):
        error = error_of(client.post(f"/models/{name}/predict", json={"inputs": "a"}))
        assert error[:2] == (404, "Validation")
    assert "this server has sum, twice, films" in error_of(client.post("/models/x/predict", json={"inputs": "a"}))[2]


def test_errors_name_the_model_too(client: TestClient) -> None:
    response = client.post("/models/films/predict", json={"inputs": "a " * 90, "truncate": False})
    assert (response.status_code, response.headers["x-model"]) == (422, "films")


def test_info_lists_them_the_default_first(client: TestClient, arithmetic: dict[str, Path]) -> None:
    shown = Info.model_validate(client.get("/info").json())
    assert [(card.name, card.kind) for card in shown.models] == [
        ("sum", "regression"), ("twice", "regression"), ("films", "classification"),
    ]  # fmt: skip
    assert (shown.model_id, shown.digest) == ("sum", open_bundle(arithmetic["sum"]).digest)
    assert shown.models[2].labels == ["negative", "positive"]


def test_durations_and_batches_are_counted_by_model(arithmetic: dict[str, Path]) -> None:
    with TestClient(create_app(arithmetic, limits=ONE)) as client:
        for path, times in (("/predict", 1), ("/models/twice/predict", 3)):
            for _ in range(times):
                client.post(path, json={"inputs": "a"})
        client.post("/models/none/predict", json={"inputs": "a"})
        for name, count in (("sum", 1), ("twice", 3)):
            for metric in ("te_request_duration", "te_request_inference_duration", "te_batch_next_size"):
                assert sample(client, f"{metric}_count", model=name) == count
        assert sample(client, "te_request_count", method="single") == 5
        assert sample(client, "te_request_success", method="single") == 4
        assert sample(client, "te_request_failure", err="validation") == 1


def test_models_share_the_threads_the_limit_and_the_queue(arithmetic: dict[str, Path]) -> None:
    """One worker: the model asked first runs alone, and a limit of 3 inputs is one for both together."""

    async def main() -> None:
        gates: dict[str, Gate] = {}
        predictors = {}
        for name, path in arithmetic.items():
            loaded = load_predictor(path)
            gates[name] = Gate(loaded.runtime)
            predictors[name] = Predictor(loaded.bundle, gates[name])
        metrics = Metrics()
        limits = Limits(workers=1, max_concurrent_requests=3, max_client_batch_size=3)
        models = Models(predictors, limits, metrics)
        first = asyncio.create_task(models.get("sum").engine.predict([("good", None)]))
        await gates["sum"].wait_started()
        others = [asyncio.create_task(models.get("twice").engine.predict([("bad", None)])) for _ in range(2)]
        while metrics.registry.get_sample_value("te_queue_size") != 2:
            await asyncio.sleep(0.001)
        with pytest.raises(Exception, match="3 inputs in flight, at most 3"):
            await models.get("sum").engine.predict([("dull", None)])
        assert gates["twice"].batches == []
        for gate in gates.values():
            gate.open()
        await asyncio.gather(first, *others)
        assert [len(gates[name].batches) for name in ("sum", "twice")] == [1, 1]
        await models.close()
        assert metrics.registry.get_sample_value("te_queue_size") == 0

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_input_that_waited_longest_goes_first_whichever_its_model(arithmetic: dict[str, Path]) -> None:
    order: list[str] = []

    async def main() -> None:
        gates, predictors = {}, {}
        for name, path in arithmetic.items():
            loaded = load_predictor(path)
            gates[name] = Gate(loaded.runtime)
            predictors[name] = Predictor(loaded.bundle, gates[name])
        models = Models(predictors, Limits(workers=1, max_batch_requests=1), metrics := Metrics())

        async def ask(name: str) -> None:
            await models.get(name).engine.predict([("good", None)])
            order.append(name)

        tasks = [asyncio.create_task(ask("sum"))]
        await gates["sum"].wait_started()
        for waiting, name in enumerate(("twice", "sum", "sum", "twice"), 1):
            tasks.append(asyncio.create_task(ask(name)))
            while metrics.registry.get_sample_value("te_queue_size") != waiting:
                await asyncio.sleep(0.001)
        for gate in gates.values():
            gate.open()
        await asyncio.gather(*tasks)
        await models.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert order == ["sum", "twice", "sum", "sum", "twice"]
