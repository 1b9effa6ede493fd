"""A cascade of files and of single texts: who answers which text, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.data import rows
from tests.support.endpoint import Server
from tests.toolkit.scoring.test_score import stopped_after
from toolkit.api import load
from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError
from toolkit.inference.hugging_face import open_hugging_face
from toolkit.inference.predictor import open_predictor
from toolkit.scoring import endpoints, inputs
from toolkit.scoring import score as scoring
from toolkit.scoring.score import run_score

TEXTS = [text for text, _ in rows(60, seed=7)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_ROWS", 8)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    """Leave PyTorch's threads as they were: a scorer takes one."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def teacher(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> Path:
    """A plain Hugging Face classifier of other weights, with its labels the other way round."""
    names = {"id2label": {0: "positive", 1: "negative"}, "label2id": {"positive": 0, "negative": 1}}
    return save_model(tiny_bert(3, **names), tmp_path_factory.mktemp("second") / "plain")


def score(model: Path, out: Path, lines: Path, **options: Any) -> list[dict[str, Any]]:
    run_score(ScoreConfig(str(model), str(out), input=(str(lines),), **options))
    return pq.read_table(out).to_pylist()


@pytest.fixture(scope="module")
def best(overconfident: Path) -> np.ndarray:
    """Best scores of TEXTS by the first model, [60]."""
    scores: np.ndarray = open_predictor(overconfident).predict(TEXTS).max(axis=1)
    return scores


@pytest.fixture(scope="module")
def threshold(best: np.ndarray) -> float:
    return float(np.median(best))


def test_the_least_sure_rows_go_on_and_the_rest_of_the_unsure_ones_are_marked(
    overconfident: Path, teacher: Path, best: np.ndarray, threshold: float, lines: Path, tmp_path: Path
) -> None:
    unsure = best < threshold
    options = {"fallback": f"big={teacher}", "threshold": threshold, "workers": 2}
    answers = score(overconfident, tmp_path / "all.parquet", lines, **options)
    assert [row["model"] for row in answers] == np.where(unsure, "big", overconfident.name).tolist()
    assert not any(row["unsure"] for row in answers)
    shown = [row["probability_positive"] for row in answers]
    own, second = (
        open_predictor(overconfident).predict(TEXTS)[:, 1],
        open_hugging_face(str(teacher)).predict(TEXTS)[:, 0],
    )
    np.testing.assert_allclose(shown, np.where(unsure, second, own), atol=1e-5)
    assert [row["label"] == "positive" for row in answers] == [value > 0.5 for value in shown]

    held = score(overconfident, tmp_path / "held.parquet", lines, max_fallback_share=0.3, **options)
    asked = np.array([row["model"] == "big" for row in held])
    assert 0 < asked.sum() < unsure.sum()
    for end in (*range(8, 60, 8), 60):
        assert asked[:end].sum() <= 0.3 * end
    assert [row["unsure"] for row in held] == (unsure & ~asked).tolist()
    for start in range(0, 60, 8):  # of each block the least sure
        block = slice(start, start + 8)
        left = (unsure & ~asked)[block]
        assert best[block][asked[block]].max(initial=0) <= best[block][left].min(initial=1)


def test_deaths_lose_and_double_no_row_and_another_second_model_is_another_command(
    overconfident: Path, teacher: Path, tiny_student: Path, threshold: float, lines: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "fallback": f"big={teacher}", "threshold": threshold, "workers": 1, "max_fallback_share": 0.25
    }  # fmt: skip
    score(overconfident, tmp_path / "whole.parquet", lines, **options)
    out = tmp_path / "out.parquet"
    for blocks in (2, 3):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stopped_after(patch, blocks)
            score(overconfident, out, lines, **options)
    for other in ({"fallback": f"big={tiny_student}"}, {"threshold": threshold / 2}, {"max_fallback_share": 0.5}):
        with pytest.raises(ToolkitError, match="same model, files and options"):
            score(overconfident, out, lines, **(options | other))
    score(overconfident, out, lines, **options)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_an_endpoint_is_asked_in_requests_of_32_again_and_again_and_within_its_budget(
    overconfident: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(path: str, body: dict[str, Any]) -> Any:
        return [[{"label": "positive", "score": 0.25}, {"label": "negative", "score": 0.75}] for _ in body["inputs"]]

    server, slept = Server(says), list[float]()
    monkeypatch.setattr(endpoints.Client.__init__, "__defaults__", (endpoints.TIMEOUT_S, slept.append))
    options: dict[str, Any] = {"threshold": 0.99, "workers": 1}
    with server.running() as url:
        options |= {"fallback": f"{url}/predict"}
        with pytest.raises(ToolkitError, match="--max-requests 2"):
            score(overconfident, tmp_path / "out.parquet", lines, max_requests=2, **options)
        server.faults = [None, 429, 503, "drop"]  # the first request asks for the labels
        answers = score(overconfident, tmp_path / "out.parquet", lines, **options)
    assert len(slept) == 3
    own = open_predictor(overconfident).predict(TEXTS)
    asked = own.max(axis=1) < 0.99
    assert [row["model"] == "fallback" for row in answers] == asked.tolist()
    np.testing.assert_allclose(
        [row["probability_positive"] for row in answers], np.where(asked, 0.25, own[:, 1]), atol=1e-5
    )
    assert all(not body["raw_scores"] for body in server.requests if body["inputs"] != [["text"]])
    assert max(len(body["inputs"]) for body in server.requests) <= scoring.REQUEST_ROWS


def test_single_texts_have_the_fields_of_a_row(
    overconfident: Path, teacher: Path, threshold: float, lines: Path, tmp_path: Path
) -> None:
    cascade = load(overconfident, fallback=f"big={teacher}", threshold=threshold)
    table = score(overconfident, tmp_path / "out.parquet", lines, fallback=f"big={teacher}", threshold=threshold)
    answers = cascade.answers(TEXTS)
    assert {answer.model for answer in answers} == {"big", overconfident.name}
    for answer, row in zip(answers, table, strict=True):
        assert (answer.label, answer.unsure, answer.model) == (row["label"], row["unsure"], row["model"])
        assert answer.score == pytest.approx(row["score"])
    assert [ranked[0][:2] for ranked in cascade.classify(TEXTS)] == [answer[:2] for answer in answers]
    assert cascade.answers([]) == cascade.classify([]) == []
    with pytest.raises(ToolkitError, match=r"texts\[1\]: the text is empty"):
        cascade.answers(["good", " "])


def test_what_cannot_stand_behind_a_model_is_refused(
    overconfident: Path, tiny_onnx: Path, teacher: Path, tmp_path: Path, tiny_bert: Callable[..., object],
    save_model: Callable[..., Path],
) -> None:  # fmt: skip
    with pytest.raises(ToolkitError, match="nothing tells what onnx is unsure of"):
        load(tiny_onnx, fallback=teacher)
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    other = save_model(tiny_bert(3, **names), tmp_path / "other")
    with pytest.raises(ToolkitError, match="its labels are bad, good; those of the first model are negative, positive"):
        load(overconfident, fallback=other, threshold=0.9)
    one = save_model(tiny_bert(3, id2label={0: "x"}, label2id={"x": 0}), tmp_path / "one")
    with pytest.raises(ToolkitError, match="is a regression model"):
        load(overconfident, fallback=one, threshold=0.9)
    with pytest.raises(ToolkitError, match=f"would both be {overconfident.name}"):
        load(overconfident, fallback=f"{overconfident.name}={teacher}", threshold=0.9)
    with pytest.raises(ToolkitError, match="--threshold 2: expected 0 to 1"):
        load(overconfident, fallback=teacher, threshold=2)
    with pytest.raises(ToolkitError, match="without fallback"):
        load(overconfident, threshold=0.9)  # type: ignore[call-overload]
