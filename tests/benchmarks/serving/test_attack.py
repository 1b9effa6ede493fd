"""What the attackers of benchmarks/serving/chaos.py send, and proof that a wrong answer beside them is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.serving.attack import PATHS, faults, memory_limit, merge, worst_requests
from benchmarks.serving.load import Load
from benchmarks.serving.malformed_requests import Sample
from benchmarks.serving.worst_bodies import TEMPLATES, bodies
from toolkit.benchmarking.server.http_client import Reply


def test_a_wrong_answer_is_a_fault() -> None:
    sample = Sample({"inputs": "a"}, np.array([[0.25, 0.75]]))
    body = b'[{"score":0.75,"label":"y"},{"score":0.25,"label":"x"}]'
    load = Load({0: Reply(200, body), 1: Reply(429, b""), 2: Reply(200, body)})
    assert [fault[:13] for fault in faults(load, [sample], ("x", "y"))] == ["short text 1:"]
    wrong = replace(sample, expected=sample.expected + 0.01)
    assert len(faults(load, [wrong], ("x", "y"))) == 3


def test_the_latency_of_several_phases_is_that_of_all_their_replies() -> None:
    loads = [Load({0: Reply(200, b"", 0.001), 1: Reply(200, b"", 0.003)}, 1.0), Load({0: Reply(200, b"", 0.002)}, 2.0)]
    assert merge(loads).milliseconds(0, 0.5, 1) == [1, 2, 3]
    assert merge(loads).seconds == 3


def test_bodies_have_the_size_and_are_of_every_endpoint() -> None:
    for path in PATHS:
        sizes = [len(body) for _, body in bodies(path, 50_000)]
        assert len(sizes) == len(TEMPLATES[path.rpartition("/")[2]]) * 27
        assert max(sizes) <= 50_000
        assert min(sizes) > 40_000
    requests = worst_requests(50_000, 10, seed=1)
    assert len(requests) == 15
    assert all(request.startswith(b"POST /") for request in requests)
    assert min(map(len, requests)) > 25_000
    assert max(map(len, requests)) < 51_000


def test_the_limit_is_the_manifests() -> None:
    assert memory_limit() == 512 * 2**20
