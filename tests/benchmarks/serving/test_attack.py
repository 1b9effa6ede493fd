"""The worst bodies harm nobody else: a small run of benchmarks/serving/attack.py, and proof that it would notice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.serving.attack import PATHS, faults, memory_limit, run, worst_requests
from benchmarks.serving.load import Load
from benchmarks.serving.malformed_requests import Sample
from benchmarks.serving.worst_bodies import TEMPLATES, bodies
from tests.support.data import rows
from toolkit.bench.server.http_client import Reply

TEXTS = [text for text, _ in rows(20, seed=5)]


def test_short_texts_are_answered_and_memory_is_bounded(tiny_onnx: Path) -> None:
    result = run(str(tiny_onnx), TEXTS, seconds=3, attackers=3, size=300_000, count=40)
    assert result["faults"] == []
    assert result["short_texts"] >= 30
    assert sum(result["attacks"].values()) > 5
    assert set(result["attacks"]) <= {"200", "400", "408", "413", "422", "429"}
    assert 50e6 < result["peak_bytes"] < memory_limit() == 512 * 2**20


def test_a_wrong_answer_is_a_fault() -> None:
    sample = Sample({"inputs": "a"}, np.array([[0.25, 0.75]]))
    body = b'[{"score":0.75,"label":"y"},{"score":0.25,"label":"x"}]'
    load = Load({0: Reply(200, body), 1: Reply(429, b""), 2: Reply(200, body)})
    assert [fault[:2] for fault in faults(load, [sample], ("x", "y"))] == ["1:"]
    wrong = replace(sample, expected=sample.expected + 0.01)
    assert len(faults(load, [wrong], ("x", "y"))) == 3


def test_bodies_have_the_size_and_are_of_every_endpoint() -> None:
    for path in PATHS:
        sizes = [len(body) for _, body in bodies(path, 50_000)]
        assert len(sizes) == len(TEMPLATES[path.rpartition("/")[2]]) * 26
        assert max(sizes) <= 50_000
        assert min(sizes) > 40_000
    requests = worst_requests(50_000, 10, seed=1)
    assert len(requests) == 15
    assert all(request.startswith(b"POST /") for request in requests)
