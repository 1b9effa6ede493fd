"""A fallback behind a URL: text-embeddings-inference or toolkit serve by /predict, vLLM by /classify."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from serve.engine.tokenization import Text
from serve.log_format import server_log
from serve.models.cascade import NoAnswer
from toolkit.data.tokenization import Direction
from toolkit.errors import ToolkitError, require_packages, some
from toolkit.inference.cascade import SecondAnswer
from toolkit.inference.endpoint_answers import (
    CLASSIFY,
    KEY,
    MALFORMED,
    PREDICT,
    classified_probabilities,
    classify_body,
    key_header,
    logs,
    predict_body,
    predicted_labels,
    predicted_scores,
)

FIXED_BYTES, ENTRY_BYTES = 65_536, 200  # of an answer: what stands around the scores, and one score
MAX_SUM_ERROR = 0.01  # of probabilities, which endpoints may round
ABOUT_TEXTS = (400, 413, 422)  # statuses that say nothing against the endpoint
FIRST_TIMEOUT_S = 5.0  # of the question before anything listens


@dataclass(frozen=True)
class Endpoint:
    """A URL that ends in PREDICT or CLASSIFY, and the name of the model there, which CLASSIFY may need."""

    url: str
    model: str = ""

    def body(self, texts: Sequence[Text], direction: Direction = "right") -> bytes:
        """Ask for the probabilities of n texts or pairs."""
        if self.url.endswith(CLASSIFY):
            return to_json(classify_body(texts, self.model))
        cut = {"truncation_direction": "Left"} if direction == "left" else {}
        return to_json(predict_body(texts, raw=False) | cut)

    def probabilities(self, content: bytes, labels: Sequence[str]) -> np.ndarray:
        """Read the probabilities [n, C] float32 in an answer, in the order of `labels`.

        Raises:
            MALFORMED: an answer of another form, or with other labels.
            NoAnswer: the outputs of CLASSIFY are in another order.
        """
        answer = from_json(content)
        if self.url.endswith(CLASSIFY):
            probabilities, best = classified_probabilities(answer)
            _check_best(probabilities, best, labels)
            return probabilities
        if any(len(ranked) != len(labels) for ranked in answer):
            raise ValueError("other labels")
        return predicted_scores(answer, labels)

    def headers(self) -> dict[str, str]:
        """Give the headers of every request, with the key of the environment."""
        return {"content-type": "application/json", "accept-encoding": "identity"} | key_header(os.environ.get(KEY))


def labels_of(endpoint: Endpoint, own: Sequence[str]) -> Sequence[str] | None:
    """Ask an endpoint for its labels; None where it does not answer now.

    Args:
        endpoint: the endpoint.
        own: the first model's labels, whose order the outputs of CLASSIFY must have.

    Raises:
        ToolkitError: it is none that is known, refuses the request, or has outputs in another order.
    """
    if not endpoint.url.endswith((PREDICT, CLASSIFY)):
        raise ToolkitError(
            f"--fallback {endpoint.url} is no endpoint that is known",
            expected=f"a URL of text-embeddings-inference or toolkit serve ({PREDICT}), or of vLLM ({CLASSIFY})",
        )
    content = _first_answer(endpoint)
    if content is None:
        return None
    try:
        if endpoint.url.endswith(PREDICT):
            return predicted_labels(from_json(content))
        endpoint.probabilities(content, own)
    except MALFORMED:
        raise ToolkitError(
            f"--fallback {endpoint.url} gives an answer of another form", expected=f"that of {PREDICT} or {CLASSIFY}"
        ) from None
    except NoAnswer as error:
        raise ToolkitError(f"--fallback {endpoint.url}: {error}", expected=f"{some(own)}, in this order") from None
    return own


def _first_answer(endpoint: Endpoint) -> bytes | None:
    require_packages("httpx", purpose="a fallback behind a URL")
    import httpx

    try:
        answer = httpx.post(
            endpoint.url, content=endpoint.body([("text", None)]), headers=endpoint.headers(), timeout=FIRST_TIMEOUT_S
        )
    except httpx.InvalidURL as error:
        raise ToolkitError(f"--fallback {endpoint.url}: {error}", expected="a URL") from None
    except httpx.HTTPError as error:
        server_log.warning("the fallback does not answer yet: %s", error)
        return None
    if answer.status_code == 429 or answer.status_code >= 500:
        server_log.warning("the fallback does not answer yet: status %d", answer.status_code)
        return None
    if answer.status_code != 200:
        raise ToolkitError(
            f"--fallback {endpoint.url} answers with status {answer.status_code}",
            expected=f"an endpoint that takes the request; its key in {KEY}, if it needs one",
        )
    return answer.content


def _check_best(probabilities: np.ndarray, best: Sequence[Any], labels: Sequence[str]) -> None:
    """Check by the names of the best labels that the outputs of CLASSIFY, which have none, are in our order.

    Raises:
        NoAnswer: they are not.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(labels):
        raise NoAnswer(f"{probabilities.shape[-1]} outputs for {len(labels)} labels")
    for number, name in zip(probabilities.argmax(axis=1).tolist(), best, strict=True):
        if name != labels[number]:
            raise NoAnswer(f"output {number} is named {str(name)[:64]!r}, not {labels[number]!r}")


class EndpointFallback:
    """An endpoint that is asked for probabilities.

    Args:
        name: in headers and metrics.
        endpoint: the URL.
        labels: of the first model, the order of the answers.
    """

    def __init__(self, name: str, endpoint: Endpoint, labels: Sequence[str]) -> None:
        import httpx

        self.name, self.digest, self._endpoint, self._labels = name, None, endpoint, labels
        self._row_bytes = sum(len(to_json(label)) + ENTRY_BYTES for label in labels)
        limits = httpx.Limits(max_connections=None)  # the cascade bounds them
        self._client = httpx.AsyncClient(headers=endpoint.headers(), limits=limits)

    async def ask(self, texts: Sequence[Text], direction: Direction, timeout_s: float) -> SecondAnswer:
        """Classify n texts or pairs."""
        most = FIXED_BYTES + self._row_bytes * len(texts)
        content = await self._post(self._endpoint.body(texts, direction), most, timeout_s)
        try:
            probabilities = self._endpoint.probabilities(content, self._labels)
        except MALFORMED:
            raise NoAnswer("an answer of another form") from None
        if probabilities.shape != (len(texts), len(self._labels)):
            raise NoAnswer(f"{len(probabilities)} answers to {len(texts)} texts")
        if not (probabilities >= 0).all() or not (abs(probabilities.sum(axis=1) - 1) <= MAX_SUM_ERROR).all():
            raise NoAnswer("scores that are no probabilities")
        return SecondAnswer(logs(probabilities), probabilities, np.zeros(len(texts), dtype=bool))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, body: bytes, most: int, timeout_s: float) -> bytes:
        """Send a request and return the bytes of its answer, of which there may be `most`."""
        content = bytearray()
        async with self._client.stream("POST", self._endpoint.url, content=body, timeout=timeout_s) as response:
            if response.status_code != 200:
                raise NoAnswer(f"status {response.status_code}", faulty=response.status_code not in ABOUT_TEXTS)
            async for part in response.aiter_raw():
                content += part
                if len(content) > most:
                    raise NoAnswer(f"an answer of more than {most} bytes")
        return bytes(content)
