"""Answers below the threshold: counted on every endpoint, told and withheld where a request asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.api.unsure import tell_unsure
from serve.app import create_app
from serve.engine.limits import Limits
from serve.exceptions import ServeError
from serve.models.loading import load_predictor
from tests.support.calibrating import calibration
from tests.support.data import rows
from tests.support.responses import error_of, sample
from toolkit.bundle.calibration import Promise
from toolkit.config import ServeConfig
from toolkit.inference.predictor import Predictor, open_predictor

TEXTS = [text for text, _ in rows(12, seed=5)]
ONE = Limits(workers=1)


def promise(kind: Any, threshold: float) -> Promise:
    return {"kind": kind, "share": 0.9, "confidence": 0.95, "threshold": threshold, "coverage": 0.5}


@pytest.fixture(scope="module")
def scores(overconfident: Path) -> np.ndarray:
    return open_predictor(overconfident, threads=1).predict(TEXTS)


@pytest.fixture(scope="module")
def threshold(scores: np.ndarray) -> float:
    """Half of the texts are below."""
    return float(np.median(scores.max(axis=1)))


@pytest.fixture(scope="module")
def promised(overconfident: Path, threshold: float) -> Predictor:
    predictor = load_predictor(overconfident)
    promises = [promise("accurate", threshold), promise("agree", threshold / 2)]
    predictor.calibration = {**calibration(2.5), "thresholds": promises}
    return predictor


@pytest.fixture(scope="module")
def service(promised: Predictor, arithmetic: dict[str, Path]) -> Iterator[TestClient]:
    with TestClient(create_app({"films": promised, "sum": arithmetic["sum"]}, limits=ONE)) as client:
        yield client


@pytest.fixture(scope="module")
def unsure(scores: np.ndarray, threshold: float) -> list[bool]:
    below: list[bool] = (scores.max(axis=1) < threshold).tolist()
    assert sum(below) == len(TEXTS) // 2
    return below


def test_every_endpoint_counts_them_in_a_header(service: TestClient, unsure: list[bool]) -> None:
    batch, counted = [[text] for text in TEXTS], sample(service, "te_predict_unsure", model="films")
    tensor = {"name": "text", "shape": [len(TEXTS)], "datatype": "BYTES", "data": TEXTS}
    for path, body in (
        ("/predict", {"inputs": batch}),
        ("/predict", {"inputs": batch, "raw_scores": True, "top_k": 1}),  # by the calibrated score all the same
        ("/", {"inputs": TEXTS, "parameters": {}}),
        ("/v2/models/films/infer", {"inputs": [tensor]}),
    ):
        response = service.post(path, json=body)
        assert (response.status_code, response.headers["x-unsure"]) == (200, str(sum(unsure)))
        counted += sum(unsure)
        assert sample(service, "te_predict_unsure", model="films") == counted
    for text, doubt in zip(TEXTS, unsure, strict=True):
        response = service.post("/predict", json={"inputs": text})
        assert response.headers["x-unsure"] == str(int(doubt))
        assert [set(entry) for entry in response.json()] == [{"score", "label"}] * 2


def test_details_tell_them_apart(service: TestClient, unsure: list[bool]) -> None:
    plain = service.post("/predict", json={"inputs": [[text] for text in TEXTS]}).json()
    told = service.post("/predict", json={"inputs": [[text] for text in TEXTS], "details": True}).json()
    assert [answer[0].pop("unsure") for answer in told] == unsure
    assert told == plain
    assert service.post("/predict", json={"inputs": TEXTS[0], "details": True}).json()[0]["unsure"] == unsure[0]


def test_abstaining_gives_no_label_or_an_error(service: TestClient, unsure: list[bool], scores: np.ndarray) -> None:
    batch = [[text] for text in TEXTS]
    plain = service.post("/predict", json={"inputs": batch}).json()
    for index, answer in enumerate(service.post("/predict", json={"inputs": batch, "abstain": True}).json()):
        expected = [{"score": plain[index][0]["score"], "label": None}] if unsure[index] else plain[index]
        assert answer == expected
    sure, doubtful = TEXTS[unsure.index(False)], TEXTS[unsure.index(True)]
    answer = service.post("/", json={"inputs": doubtful, "abstain": True, "details": True, "raw_scores": True}).json()
    assert [(entry["label"], entry["unsure"]) for entry in answer] == [(None, True)]
    failed = sample(service, "te_request_failure", err="unsure")
    refused = service.post("/predict", json={"inputs": doubtful, "abstain": "error"})
    assert error_of(refused) == (409, "Unsure", "the model is unsure")
    assert (refused.headers["x-unsure"], refused.headers["x-model"]) == ("1", "films")
    assert service.post("/predict", json={"inputs": sure, "abstain": "error"}).status_code == 200
    numbers = ", ".join(str(number) for number, doubt in enumerate(unsure) if doubt)
    error = error_of(service.post("/predict", json={"inputs": batch, "abstain": "error"}))
    assert error == (409, "Unsure", f"the model is unsure about inputs {numbers}")
    assert sample(service, "te_request_failure", err="unsure") == failed + 2


def test_a_model_that_cannot_tell_says_so(service: TestClient, client: TestClient) -> None:
    """`sum` is a regression; `client` has a classification that promises nothing."""
    for own, path in ((service, "/models/sum/predict"), (client, "/predict")):
        assert "x-unsure" not in own.post(path, json={"inputs": "a"}).headers
        assert own.post(path, json={"inputs": "a", "details": True}).json()[0]["unsure"] is None
        for abstain in (True, "error"):
            error = error_of(own.post(path, json={"inputs": "a", "abstain": abstain}))
            assert error[:2] == (409, "Validation")
            assert "has no threshold" in error[2]
    for abstain in ("label", 1, None):
        assert error_of(service.post("/predict", json={"inputs": "a", "abstain": abstain}))[0] == 422
    mixed = error_of(service.post("/", json={"inputs": "a", "parameters": {}, "abstain": True}))
    assert "`abstain` stands beside `parameters`" in mixed[2]


def test_the_threshold_is_the_highest_promised_one_or_the_servers(
    service: TestClient, promised: Predictor, threshold: float, tiny_onnx: Path
) -> None:
    assert [card["threshold"] for card in service.get("/info").json()["models"]] == [threshold, None]
    for source in (promised, tiny_onnx):
        with TestClient(create_app(source, limits=ONE, config=ServeConfig(threshold=1.0, bundles=()))) as client:
            assert client.get("/info").json()["models"][0]["threshold"] == 1.0
            assert client.post("/predict", json={"inputs": TEXTS[0]}).headers["x-unsure"] == "1"


def test_an_error_names_ten_of_many() -> None:
    answers: Any = [[{"score": 0.5, "label": "a"}]] * 13
    with pytest.raises(ServeError, match=r"inputs 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more$"):
        tell_unsure(answers, np.ones(13, dtype=bool), abstain="error", details=False)
