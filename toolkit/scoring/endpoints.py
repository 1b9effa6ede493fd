"""Models behind a URL: text-embeddings-inference's /predict, vLLM's /classify, and /chat/completions of an LLM.

A request that fails for a while is sent again after a pause that doubles: status 429 and 5xx, a connection that drops,
an answer that does not come in time. Every request counts against a budget.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError
from toolkit.files import read_regular
from toolkit.inference.cascade import SecondAnswer
from toolkit.inference.endpoint_answers import (
    CLASSIFY,
    KEY,
    LEAST,
    MALFORMED,
    PREDICT,
    Parts,
    classified_probabilities,
    classify_body,
    key_header,
    logs,
    predict_body,
    predicted_labels,
    predicted_scores,
)
from toolkit.inference.metrics import softmax
from toolkit.tasks import Task

CHAT = "/chat/completions"
TRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S, TIMEOUT_S = 6, 0.5, 30.0, 60.0
MAX_ANSWER_BYTES = 64 * 2**20
FORMS = f"a URL of text-embeddings-inference ({PREDICT}), vLLM ({CLASSIFY}) or an LLM ({CHAT})"
TOP = 20  # tokens whose log-probability is asked for, the most that the API gives

PROMPT = "Answer with one of {labels}, and nothing else.\n\nText: {text}\n{text_pair}\nAnswer:"
MAX_PROMPT_BYTES = 2**20


class Budget:
    """A number of requests that all threads share; None is no bound."""

    def __init__(self, most: int | None) -> None:
        self.most, self.spent, self._lock = most, 0, threading.Lock()

    def spend(self) -> None:
        """Count a request.

        Raises:
            ToolkitError: the budget is spent.
        """
        with self._lock:
            if self.most is not None and self.spent >= self.most:
                raise ToolkitError(
                    f"--max-requests {self.most}: as many requests are sent; what was answered is kept",
                    fix="the same command again goes on, with a budget of its own",
                )
            self.spent += 1


@dataclass(frozen=True)
class Client:
    """POST of JSON to one URL, again and again until it is answered.

    Attributes:
        url: http or https.
        budget: of requests, those that are sent again included.
        timeout_s: seconds until an answer counts as lost.
        sleep: waits so many seconds.
    """

    url: str
    budget: Budget
    timeout_s: float = TIMEOUT_S
    sleep: Callable[[float], None] = field(default=time.sleep)

    def ask(self, body: Mapping[str, object]) -> Any:
        """Send a body and return the parsed answer.

        Raises:
            ToolkitError: the endpoint refuses the request, or does not answer TRIES times; or the budget is spent.
        """
        pause, problem = FIRST_PAUSE_S, ""
        for attempt in range(TRIES):
            if attempt:
                self.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            self.budget.spend()
            try:
                return json.loads(self._post(json.dumps(body).encode()))
            except urllib.error.HTTPError as error:
                problem = f"status {error.code}: {error.read(500).decode(errors='replace').strip()}"
                if error.code != 429 and error.code < 500:
                    break
                pause = max(pause, min(_seconds(error.headers.get("Retry-After")), LONGEST_PAUSE_S))
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = str(error) or type(error).__name__
        raise ToolkitError(
            f"{self.url} does not answer: {problem}",
            expected=f"an endpoint that takes the request; its key in {KEY}, if it needs one",
            fix="give the same command again once it does: what was answered is kept",
        )

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", **key_header(os.environ.get(KEY))}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:  # noqa: S310
            content: bytes = answer.read(MAX_ANSWER_BYTES)
            return content


@dataclass(frozen=True)
class Endpoint:
    """A classifier behind a URL.

    Attributes:
        client: of the URL, which ends in PREDICT, CLASSIFY or CHAT.
        task: its labels.
        model: its name there, for CLASSIFY and CHAT.
        prompt: of CHAT, with {text} and perhaps {text_pair}, and {labels}.
        thresholds: score of each label [C] below which its answers are unsure; None where nothing tells.
        raw: ask PREDICT for logits, not for the probabilities that it may have calibrated.
    """

    client: Client
    task: Task
    model: str = ""
    prompt: str = ""
    thresholds: np.ndarray | None = None
    raw: bool = True
    says_pairs: ClassVar[bool] = False
    device: ClassVar[str] = "endpoint"
    max_length: ClassVar[int] = 0  # it cuts texts by itself

    @property
    def digest(self) -> str:
        """Name what is asked: the URL, the model, the prompt."""
        return " ".join((self.client.url, self.model, hashlib.sha256(self.prompt.encode()).hexdigest()))

    def answer(self, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
        """Ask for n texts or pairs; return logits [n, C] float32, or the logs of probabilities.

        Raises:
            ToolkitError: as `Client.ask`; or an answer of another form, or with other labels.
        """
        url = self.client.url
        inputs = [(text, None if pairs is None else pairs[i]) for i, text in enumerate(texts)]
        try:
            if url.endswith(PREDICT):
                answers = predicted_scores(self.client.ask(predict_body(inputs, raw=self.raw)), self.task.labels)
                logits = answers if self.raw else logs(answers)
            elif url.endswith(CLASSIFY):
                logits = logs(classified_probabilities(self.client.ask(classify_body(inputs, self.model)))[0])
            else:
                logits = np.array([self._chat(parts) for parts in inputs], dtype=np.float32)
        except MALFORMED as error:
            raise ToolkitError(
                f"{url} gives an answer of another form: {error!r}", expected=f"{FORMS}; labels as --labels has them"
            ) from None
        if logits.shape != (len(texts), len(self.task.labels)):
            raise ToolkitError(f"{url} gives {logits.shape} answers to {len(texts)} texts", expected="one to each")
        return logits

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits [n, C] into the probabilities [n, C] that it says."""
        return softmax(logits)

    def second_answer(self, logits: np.ndarray, order: Sequence[int]) -> SecondAnswer:
        """Make a second model's answer of its logits [n, C], its outputs taken in an order."""
        logits = logits[:, order]
        return SecondAnswer(logits, self.scores(logits), np.zeros(len(logits), dtype=bool))

    def _chat(self, parts: Parts) -> list[float]:
        text, pair = parts
        values = {"{text}": text, "{text_pair}": pair or "", "{labels}": ", ".join(self.task.labels)}
        content = self.prompt
        if pair and "{text_pair}" not in content:
            raise ToolkitError("the prompt has no {text_pair}, and the texts are pairs", fix="--prompt FILE with both")
        for name in ("{labels}", "{text_pair}", "{text}"):
            content = content.replace(name, values[name])
        answer = self.client.ask({
            "model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": 1,
            "temperature": 0, "logprobs": True, "top_logprobs": TOP,
        })  # fmt: skip
        tops = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return label_logits({str(top["token"]): float(top["logprob"]) for top in tops}, self.task.labels)


def open_endpoint(config: ScoreConfig, own: Sequence[str] = ()) -> Endpoint:
    """Make the endpoint that the options name. Without --labels text-embeddings-inference is asked for its own.

    Args:
        config: the options, with a URL among them.
        own: labels that CHAT is asked for where --labels names none.

    Raises:
        ToolkitError: a URL of another form, or options that it needs and that are not given.
    """
    url, labels = str(config.url), tuple(filter(None, (config.labels or "").split(",")))
    if not url.endswith((PREDICT, CLASSIFY, CHAT)):
        raise ToolkitError(f"{url} is no endpoint that is known", expected=FORMS)
    client = Client(url, Budget(config.max_requests))
    if not labels and url.endswith(PREDICT):
        labels = tuple(sorted(predicted_labels(client.ask(predict_body([("text", None)], raw=True)))))
    if not labels and url.endswith(CHAT):
        labels = tuple(own)
    if not labels:
        raise ToolkitError(f"no --labels: {url} does not name its own", expected="--labels A,B in their order")
    if config.served_model is None and not url.endswith(PREDICT):
        raise ToolkitError("no --served-model", expected=f"the name of the model at {url}")
    try:
        prompt = PROMPT if config.prompt is None else read_regular(Path(config.prompt), MAX_PROMPT_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ToolkitError(f"--prompt {config.prompt}: cannot be read: {error}", expected="text in UTF-8") from None
    if "{text}" not in prompt:
        raise ToolkitError(f"{config.prompt} has no {{text}}", expected="{text}, and perhaps {text_pair} and {labels}")
    thresholds = np.full(len(labels), config.threshold) if config.threshold else None
    return Endpoint(client, Task("auto", labels), config.served_model or "", prompt, thresholds)


def open_second_endpoint(config: ScoreConfig, own: Sequence[str]) -> Endpoint:
    """Make the endpoint behind a model of some labels, asked for its probabilities, as a server's fallback is."""
    return replace(open_endpoint(config, own), thresholds=None, raw=False)


def label_logits(tokens: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    """Give the log of each label's probability: that of the first tokens that begin it and no other label.

    Raises:
        ToolkitError: no token begins a label.
    """
    masses = dict.fromkeys(labels, 0.0)
    for token, logarithm in tokens.items():
        piece = token.strip().lower()
        begun = [label for label in labels if piece and label.lower().startswith(piece)]
        if len(begun) == 1:
            masses[begun[0]] += float(np.exp(logarithm))
    total = sum(masses.values())
    if not total:
        said = ", ".join(map(repr, list(tokens)[:5]))
        raise ToolkitError(
            f"the model begins its answer with {said}, and no label begins so", expected=f"one of {', '.join(labels)}",
            fix="a --prompt FILE that asks for one of {labels} and nothing else",
        )  # fmt: skip
    return [float(np.log(max(mass / total, LEAST))) for mass in masses.values()]


def _seconds(value: str | None) -> float:
    """Read Retry-After in seconds; a date counts as none."""
    return float(value) if value is not None and value.isdecimal() else 0.0
