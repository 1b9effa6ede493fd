"""Several models on one server: each answers under its own name, and is told apart wherever it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.api.schemas import Info
from serve.app import create_app
from serve.engine.limits import Limits
from serve.metrics import Metrics
from serve.models.loading import load_predictor, parse_model_names
from serve.models.registry import Models
from serve.models.replay import KEPT, KEPT_CHARACTERS, RecentInputs, compare
from tests.support.arithmetic_bundles import SUM, TWICE, rewritten, save_arithmetic
from tests.support.data import rows
from tests.support.gate import Gate
from tests.support.responses import error_of, sample
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, open_predictor

ONE = Limits(workers=1)


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("arithmetic")
    return {name: save_arithmetic(folder / name, tokenizer, graph) for name, graph in (("sum", SUM), ("twice", TWICE))}


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
    assert {one["label"]: one["score"] for one in both[1]} == pytest.approx(
        dict(zip(("negative", "positive"), expected, strict=True)), abs=1e-6
    )


def test_a_model_that_is_not_there_is_404_and_names_those_that_are(client: TestClient) -> None:
    for name in ("x", "SUM", "sum%20", "%00", "%ff", "..%2fsum", "\u00fc"):
        found = error_of(client.post(f"/models/{name}/predict", json={"inputs": "a"}))
        assert found[:2] == (404, "Validation")
    assert "this server has sum, twice, films" in error_of(client.post("/models/x/predict", json={"inputs": "a"}))[2]


def test_errors_name_the_model_too(client: TestClient) -> None:
    response = client.post("/models/films/predict", json={"inputs": "a " * 90, "truncate": False})
    assert (response.status_code, response.headers["x-model"]) == (422, "films")


def test_info_lists_them_the_default_first(client: TestClient, arithmetic: dict[str, Path]) -> None:
    shown = Info.model_validate(client.get("/info").json())
    assert [(one.name, one.kind) for one in shown.models] == [
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


def test_names_come_from_directories_or_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_model_names(["runs/int8", "b=x/y=z", "runs/fp32/"]) == {
        "int8": "runs/int8",
        "b": "x/y=z",
        "fp32": "runs/fp32/",
    }
    (tmp_path / "a=b c").mkdir()
    assert parse_model_names([str(tmp_path / "a=b c")]) == {"a-b-c": str(tmp_path / "a=b c")}
    monkeypatch.chdir(tmp_path / "a=b c")
    assert parse_model_names(["."]) == {"a-b-c": "."}
    assert parse_model_names(["/"]) == {"model": "/"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["a/int8", "b/int8"], "(?s)a/int8 and b/int8 would both be int8.*int8-2=b/int8"),
        (["x=a", "x=b"], "would both be x"),
        (["/x=a"], "'/x' is no name"),
        ([".x=a"], "is no name"),
        (["=a"], "'' is no name"),
        ([f"{'x' * 65}=a"], "is no name"),
        ([], "no bundle to serve"),
    ],
)
def test_names_that_will_not_do(given: list[str], problem: str) -> None:
    with pytest.raises(ToolkitError, match=problem):
        parse_model_names(given)


def test_the_factory_reads_the_environment(
    arithmetic: dict[str, Path], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_BUNDLE", f"{arithmetic['sum']}:films={tiny_onnx}")
    monkeypatch.setenv("TOOLKIT_MAX_CLIENT_BATCH_SIZE", "2")
    monkeypatch.setenv("TOOLKIT_CORS_ORIGINS", "https://friend.test")
    monkeypatch.setenv("TOOLKIT_PORT", "tcp://10.0.0.1:80")  # what Kubernetes says beside a service named toolkit
    with TestClient(create_app()) as client:
        shown = client.get("/info", headers={"origin": "https://friend.test"})
        assert [one["name"] for one in shown.json()["models"]] == ["sum", "films"]
        assert shown.json()["max_client_batch_size"] == 2
        assert shown.headers["access-control-allow-origin"] == "https://friend.test"
    monkeypatch.setenv("TOOLKIT_MAX_CLIENT_BATCH_SIZE", "two")
    with pytest.raises(ToolkitError, match="TOOLKIT_MAX_CLIENT_BATCH_SIZE=two"):
        create_app()


def test_one_row_of_nan_fails_its_own_requests_with_424(tiny_onnx: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A real model with NaN in the embedding of one word, as a broken disk or training run leaves it."""

    def spoil(weights: np.ndarray) -> np.ndarray:
        spoilt = weights.copy()
        spoilt[tokenizer.token_to_id("film")] = np.nan
        spoilt[tokenizer.token_to_id("plot")] = np.inf
        return spoilt

    broken = rewritten(tiny_onnx, tmp_path / "broken", word_embeddings__weight=spoil)
    with TestClient(create_app(broken, limits=ONE)) as client:
        for bad in ("a good film", "a good plot"):
            response = client.post("/predict", json={"inputs": bad})
            assert error_of(response)[:2] == (424, "Backend")
            assert error_of(client.post("/predict", json={"inputs": [["good"], [bad]]}))[:2] == (424, "Backend")
            assert client.post("/predict", json={"inputs": "a good story"}).status_code == 200
    whole = rewritten(tiny_onnx, tmp_path / "whole", classifier__bias=lambda weights: weights * np.nan)
    with pytest.raises(ToolkitError, match="not finite"):
        load_predictor(whole)


def test_a_bundle_that_fails_at_its_full_length_is_not_served(tiny_onnx: Path, tmp_path: Path) -> None:
    """Its table of positions is shorter than its max_length: short texts would work, long ones fail one day."""
    short = rewritten(tiny_onnx, tmp_path / "short", position_embeddings__weight=lambda weights: weights[:16])
    with pytest.raises(ToolkitError, match="does not run"):
        load_predictor(short)


def test_comparing_by_hand(arithmetic: dict[str, Path], tiny_onnx: Path, tmp_path: Path) -> None:
    texts = [(text, None if i % 3 else "a plot") for i, (text, _) in enumerate(rows(60, seed=3))]
    one, two = (open_predictor(arithmetic[name], threads=1) for name in ("sum", "twice"))
    found = compare(one, two, texts, batch_size=7)
    sums = [float(one.encoder.encode([text], pair and [pair]).ids[0].sum()) for text, pair in texts]
    assert (found.compared, found.agreement, found.max_score_difference, found.failed) == (60, None, max(sums), 0)
    films = open_predictor(tiny_onnx, threads=1)
    same = compare(films, films, texts, batch_size=7)
    assert (same.agreement, same.max_score_difference) == (1.0, 0.0)
    turned = rewritten(tiny_onnx, tmp_path / "turned", classifier__bias=lambda bias: bias + np.array([0.0, 1.5]))
    moved = open_predictor(turned, threads=1)
    labels = [
        [predictor.predict([text], pair and [pair])[0].argmax() for text, pair in texts] for predictor in (films, moved)
    ]
    differing = sum(a != b for a, b in zip(*labels, strict=True))
    assert 0 < differing < 60
    assert compare(films, moved, texts, batch_size=7).agreement == pytest.approx(1 - differing / 60)
    assert compare(films, moved, [], batch_size=7).compared == 0


def test_what_is_remembered_is_bounded() -> None:
    recent = RecentInputs()
    for i in range(3 * KEPT):
        recent.add([(f"{i} " + "x" * 10_000, None if i % 2 else "y" * 10_000)])
    texts = recent.texts()
    assert [text.split()[0] for text, _ in texts] == [str(i) for i in range(2 * KEPT, 3 * KEPT)]
    assert {len(part) for pair in texts for part in pair if part is not None} == {KEPT_CHARACTERS}
    recent.add([("a", None)] * 1000)
    assert recent.texts() == [("a", None)] * KEPT
