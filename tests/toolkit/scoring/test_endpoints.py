"""Endpoints over real HTTP: answers in the order of the labels, faults are outlived, a budget ends the work."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.endpoint import Server
from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError
from toolkit.scoring.endpoints import Budget, Client, Endpoint, label_logits, open_endpoint
from toolkit.scoring.score import run_score
from toolkit.tasks import Task

TASK = Task("auto", ("bad", "good"))


def answer_of(path: str, body: dict[str, Any]) -> Any:
    """What each kind of server says; a text with "good" in it is good with 3 to 1."""
    odds = [(3.0 if "good" in json.dumps(part) else 1 / 3) for part in body.get("inputs", body.get("input", []))]
    if path.endswith("/predict"):
        assert body["raw_scores"] is True
        return [[{"label": "good", "score": math.log(odd)}, {"label": "bad", "score": 0.0}] for odd in odds]
    if path.endswith("/classify"):
        data = [{"index": i, "probs": [1 / (1 + odd), odd / (1 + odd)]} for i, odd in enumerate(odds)]
        return {"data": data[::-1]}
    is_good = "good" in body["messages"][0]["content"].split("Text:")[1]
    tops = [("good", 0.75), (" bad", 0.25)] if is_good else [("Bad", 0.75), ("go", 0.25)]
    tops.append(("other", 1e-3))
    content = [{"top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in tops]}]
    return {"choices": [{"logprobs": {"content": content}}]}


@pytest.mark.parametrize("path", ["/predict", "/v1/classify", "/v1/chat/completions"])
def test_each_kind_gives_the_labels_their_own_scores(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEY", "secret")
    server = Server(answer_of)
    with server.running() as url:
        endpoint = Endpoint(Client(url + path, Budget(None)), TASK, "m", "One of {labels}. Text: {text} {text_pair}")
        logits = endpoint.answer(["a good film", "a dull one"], None)
        pairs = endpoint.answer(["x", "y"], ["so good", "so so"])
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], [math.log(3), -math.log(3)], rtol=1e-4)
    np.testing.assert_allclose(pairs, logits, rtol=1e-5)
    assert set(server.keys) == {"Bearer secret"}


@pytest.mark.parametrize("path", ["/predict", "/v1/classify", "/v1/chat/completions"])
def test_faults_in_the_middle_lose_nothing(path: str) -> None:
    server, pauses = Server(answer_of), list[float]()
    server.faults = [429, 500, "drop", "hang", "cut", None, None]
    with server.running() as url:
        client = Client(url + path, Budget(None), timeout_s=0.3, sleep=pauses.append)
        logits = Endpoint(client, TASK, "m", "Text: {text}").answer(["a good film"], None)
    assert logits[0, 1] - logits[0, 0] == pytest.approx(math.log(3), rel=1e-4)
    assert len(server.requests) == 6
    assert all(body == server.requests[0] for body in server.requests)
    assert pauses == [7.0, 14.0, 28.0, 30.0, 30.0], "Retry-After, and then twice as long each time"


def test_an_endpoint_that_stays_away_or_refuses_is_said() -> None:
    server = Server(answer_of)
    with server.running() as url:
        server.faults = [503] * 10
        client = Client(url + "/predict", Budget(None), sleep=lambda _: None)
        with pytest.raises(ToolkitError, match="does not answer: status 503"):
            client.ask({"inputs": [["x"]], "raw_scores": True})
        assert len(server.requests) == 6
        server.faults = [401]
        with pytest.raises(ToolkitError, match="status 401") as caught:
            client.ask({"inputs": [["x"]], "raw_scores": True})
        assert len(server.requests) == 7, "what is refused is not sent again"
        assert "TOOLKIT_API_KEY" in caught.value.expected


def test_the_budget_counts_what_is_sent_again() -> None:
    server = Server(answer_of)
    server.faults = [500]
    with server.running() as url:
        endpoint = Endpoint(Client(url + "/predict", Budget(3), sleep=lambda _: None), TASK)
        endpoint.answer(["x"], None)
        endpoint.answer(["x"], None)
        with pytest.raises(ToolkitError, match="--max-requests 3"):
            endpoint.answer(["x"], None)
    assert len(server.requests) == 3


def test_other_labels_and_forms_are_refused() -> None:
    server = Server(answer_of)
    with server.running() as url:
        with pytest.raises(ToolkitError, match="an answer of another form: KeyError"):
            Endpoint(Client(url + "/predict", Budget(None)), Task("auto", ("yes", "no"))).answer(["x"], None)
        with pytest.raises(ToolkitError, match=r"gives \(1, 2\) answers to 1 texts"):
            Endpoint(Client(url + "/classify", Budget(None)), Task("auto", ("a", "b", "c"))).answer(["x"], None)


def test_tokens_that_begin_one_label_count_for_it() -> None:
    tokens = {"pos": math.log(0.5), " Positive": math.log(0.1), "neg": math.log(0.2), "n": math.log(0.1), "": 0.0}
    logits = label_logits(tokens, ("positive", "negative", "neutral"))
    np.testing.assert_allclose(np.exp(logits), [0.75, 0.25, 1e-7], rtol=1e-4)
    with pytest.raises(ToolkitError, match="begins its answer with 'Well'"):
        label_logits({"Well": 0.0}, ("yes", "no"))


def test_a_budget_ends_a_command_that_goes_on_with_the_next(tmp_path: Path) -> None:
    texts = [f"a {'good' if i % 3 else 'dull'} film {i}" for i in range(200)]
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    server = Server(answer_of)
    with server.running() as url:
        config = ScoreConfig(
            f"{url}/predict", str(tmp_path / "out.jsonl"), input=(str(tmp_path / "in.txt"),), workers=2,
            labels="bad,good", max_requests=3,
        )  # fmt: skip
        with pytest.raises(ToolkitError, match="--max-requests 3: as many requests are sent"):
            run_score(config)
        assert len(server.requests) == 3
        run_score(replace(config, max_requests=10))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == ["good" if "good" in text else "bad" for text in texts]
    assert rows[1]["probability_good"] == pytest.approx(0.75)
    asked = [text for body in server.requests for (text,) in body["inputs"]]
    assert sorted(asked) == sorted(texts), "each text once"


def test_what_an_endpoint_needs_is_said(tmp_path: Path) -> None:
    server = Server(answer_of)
    with server.running() as url:
        endpoint = open_endpoint(ScoreConfig(f"{url}/predict", "o.csv"))
        assert endpoint.task.labels == ("bad", "good"), "as it names them itself"
        with pytest.raises(ToolkitError, match="no --labels"):
            open_endpoint(ScoreConfig(f"{url}/v1/classify", "o.csv", served_model="m"))
        with pytest.raises(ToolkitError, match="no --served-model"):
            open_endpoint(ScoreConfig(f"{url}/v1/classify", "o.csv", labels="a,b"))
        with pytest.raises(ToolkitError, match="is no endpoint"):
            open_endpoint(ScoreConfig(url, "o.csv", labels="a,b"))
        prompt = tmp_path / "prompt.txt"
        prompt.write_text("Which?", encoding="utf-8")
        with pytest.raises(ToolkitError, match=r"has no \{text\}"):
            open_endpoint(
                ScoreConfig(f"{url}/v1/chat/completions", "o.csv", labels="a,b", served_model="m", prompt=str(prompt))
            )
        with pytest.raises(ToolkitError, match=r"--prompt .*gone: cannot be read"):
            open_endpoint(replace(ScoreConfig(f"{url}/predict", "o.csv"), prompt=str(tmp_path / "gone")))
    with pytest.raises(ToolkitError, match="--labels, --max-requests: expected the URL of an endpoint as MODEL"):
        ScoreConfig("dir", "o.csv", input=("a",), labels="a,b", max_requests=1).check()
