"""Requests of clients: good ones with the answers that they must get, and bad ones of every kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.serving.scores import scores_of
from toolkit.benchmarking.server.http_client import Reply, post
from toolkit.config import ServeConfig
from toolkit.inference.predictor import Predictor

TOLERANCE = 1e-5
PAYLOAD_LIMIT = ServeConfig.payload_limit


@dataclass(frozen=True)
class Sample:
    """A good request and the scores [n, C] that it must get."""

    body: dict[str, Any]
    expected: np.ndarray

    def right(self, reply: Reply, labels: Sequence[str]) -> bool:
        """Return whether an answer holds these scores, in order."""
        if reply.status != 200:
            return False
        answers = json.loads(reply.body)
        if answers and isinstance(answers[0], dict):
            answers = [answers]
        try:
            scores = np.array([scores_of(answer, labels) for answer in answers])
        except KeyError:
            return False
        return scores.shape == self.expected.shape and bool(np.abs(scores - self.expected).max() <= TOLERANCE)


def samples(predictor: Predictor, texts: Sequence[str]) -> list[Sample]:
    """Make good requests of every shape over some texts, odd ones among them."""
    odd = ["good\x00film", "\x00", "été 🎬 \u202eabc\u202c a\u0301", "word " * 3000, "\t\n", "x" * 500, "<b>&amp;</b>"]
    many = [*texts, *odd]
    good = [Sample({"inputs": text}, predictor.predict([text])) for text in many]
    for first, second in pairwise(many):
        pair = predictor.predict([first], [second])
        good += [
            Sample({"inputs": [first, second]}, pair),
            Sample({"inputs": {"text": first, "text_pair": second}}, pair),
        ]
        both = np.concatenate([predictor.predict([first]), pair])
        good.append(Sample({"inputs": [[first], [first, second]]}, both))
    return [sample for sample in good if len(json.dumps(sample.body)) < PAYLOAD_LIMIT]


JSON = "Content-Type: application/json\r\n"
# what is sent, and the statuses that may answer it, in the shape of our errors
MALFORMED: dict[str, tuple[bytes, set[int]]] = {
    "broken JSON": (post(b'{"inputs": "a'), {422}),
    "no body": (post(b""), {422}),
    "JSON of something else": (post([1, 2, 3]), {422}),
    "not UTF-8": (post(b'{"inputs": "\xff\xfe"}'), {422}),
    "half a surrogate": (post(b'{"inputs": "\\ud800"}'), {422}),
    "deep lists": (post(b'{"inputs":' + b"[" * 40_000 + b"]" * 40_000 + b"}"), {422}),
    "deep objects": (post(b'{"inputs":' * 9_000 + b"1" + b"}" * 9_000), {422}),
    "a number": (post({"inputs": 5}), {422}),
    "null": (post({"inputs": None}), {422}),
    "a list of numbers": (post({"inputs": [1, 2]}), {422}),
    "three strings": (post({"inputs": ["a", "b", "c"]}), {422}),
    "an unknown field": (post({"inputs": {"text": "a", "label": "b"}}), {422}),
    "infinity": (post(b'{"inputs": "a", "timeout_ms": 1e999}'), {422}),
    "a huge number": (post(b'{"inputs": "a", "top_k": ' + b"9" * 5_000 + b"}"), {422}),
    "too many inputs": (post({"inputs": [["a"]] * 33}), {422}),
    "nothing": (post({"inputs": ""}), {400}),
    "an empty batch": (post({"inputs": []}), {400}),
    "oversize, announced": (
        f"POST /predict HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: {PAYLOAD_LIMIT + 1}\r\n\r\n ".encode(), {413},
    ),
    "oversize, in chunks": (
        f"POST /predict HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{PAYLOAD_LIMIT + 20_000:X}\r\n"
        .encode() + b" " * (PAYLOAD_LIMIT + 20_000) + b"\r\n0\r\n\r\n", {413},
    ),
    "not JSON": (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc", {415}
    ),
    "no such path": (post({"inputs": "a"}, "/predictt"), {404}),
    "no such method": (f"PUT /predict HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 2\r\n\r\n{{}}".encode(), {405}),
}  # fmt: skip
# not HTTP, or not what a server must take: any 4xx will do, and so will closing the connection
NOT_HTTP = (
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,  # a TLS greeting
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
)
