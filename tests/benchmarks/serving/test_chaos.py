"""Bad clients harm nobody else: a small run of benchmarks/serving/chaos.py, and proof that it would notice."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.attack import worst_requests
from benchmarks.serving.chaos import OPTIONS, Chaos, flat, rounds, run
from benchmarks.serving.load import closed_loop
from benchmarks.serving.malformed_requests import MALFORMED, Sample, samples
from benchmarks.serving.scores import compare
from tests.support.data import rows
from tests.support.server import WAIT, ask, serving
from toolkit.benchmarking.server.http_client import Address, Connection, Reply, post
from toolkit.inference.predictor import open_predictor

TEXTS = [text for text, _ in rows(20, seed=5)]


def test_no_bad_client_harms_a_good_one(tiny_onnx: Path) -> None:
    result = run(str(tiny_onnx), TEXTS, 250, phases=1, seconds=1, bodies=3)
    assert result["faults"] == []
    assert sum(result["moves"].values()) == 250
    assert len(result["moves"]) == 11
    assert result["gauges"] == {"queue_size": 0.0, "unaccounted": 0.0}
    assert result["sigterm"]["exit_code"] == 0
    assert result["sigterm"]["answered"] > 0
    assert result["attack"]["short_texts"] >= 15
    assert 50e6 < result["attack"]["peak_bytes"] < result["attack"]["memory_limit"]
    assert result["attack"]["p99_ms"]["ratio"] > 0


def test_every_malformed_request_gets_its_own_error_and_wrong_answers_are_noticed(tiny_onnx: Path) -> None:
    predictor = open_predictor(tiny_onnx, threads=1)
    good = samples(predictor, TEXTS[:2])
    wrong = [replace(sample, expected=sample.expected + 0.01) for sample in good]
    with serving("-m", "serve", f"chaos={tiny_onnx}", *OPTIONS) as (_, url):
        host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()  # type: ignore[union-attr]
        address = Address(host, int(port))

        async def ask_all() -> dict[str, Reply]:
            replies = {}
            for name, (request, _) in MALFORMED.items():
                connection = await Connection.open(address)
                replies[name] = await connection.ask(request)
                connection.close()
            return replies

        replies = asyncio.run(ask_all())
        assert {name: reply.status for name, reply in replies.items() if {reply.status} != MALFORMED[name][1]} == {}
        worst = worst_requests(10_000, 3, seed=0)
        chaos = Chaos(address, wrong, predictor.task.labels, random.Random(0), worst=worst)
        asyncio.run(rounds(chaos, 40, 4))
        answered = {"good", "good, slowly", "two at once"}
        assert len(chaos.faults) >= sum(chaos.done[name] for name in answered) > 0
        assert all("not [[" in fault for fault in chaos.faults)


def test_scores_over_http_are_the_predictors_whatever_the_concurrency(tiny_onnx: Path) -> None:
    with serving("-m", "serve", str(tiny_onnx), *OPTIONS, "--max-batch-requests", "8") as (_, url):
        host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()  # type: ignore[union-attr]
        predictor = open_predictor(tiny_onnx, threads=1)
        texts = [text for text, _ in rows(150, seed=6)]
        result = compare(Address(host, int(port)), predictor, texts, [1, 8, 40])
        assert [row["connections"] for row in result] == [1, 8, 40]
        assert all(row["largest_difference"] < 1e-6 for row in result)
        requests = [post({"inputs": text}) for text in texts]
        load = asyncio.run(closed_loop(Address(host, int(port)), requests, 4))
        assert sorted(load.replies) == list(range(150))
        assert load.count(200) == 150
        assert 0 < load.milliseconds(0.5)[0] <= load.milliseconds(0.99)[0]


@pytest.mark.parametrize(
    "body",
    [b'[{"score":0.4,"label":"a"},{"score":0.6,"label":"b"}]', b"[]", b'[[{"score":0.6,"label":"a"}],[]]'],
)
def test_a_wrong_score_a_missing_one_and_one_too_many_are_wrong(body: bytes) -> None:
    sample = Sample({"inputs": "a"}, np.array([[0.6, 0.4]]))
    assert sample.right(Reply(200, b'[{"score":0.6,"label":"a"},{"score":0.4,"label":"b"}]'), ("a", "b"))
    assert not sample.right(Reply(200, body), ("a", "b"))
    assert not sample.right(Reply(503, b"[]"), ("a", "b"))


def test_a_request_that_stays_open_is_a_fault_and_one_that_the_server_closed_is_none() -> None:
    chaos = Chaos(Address("127.0.0.1", 1), [], (), random.Random(0))
    kept, ended, young = Connection(), Connection(), Connection()
    ended.closed = True
    chaos.stalled = [(time.monotonic() - 50, kept), (time.monotonic() - 50, ended), (time.monotonic(), young)]
    chaos.end_stalled()
    assert chaos.faults == ["never ends: still open after 50 s"]


def test_memory_is_read_ten_times(tiny_onnx: Path) -> None:
    result = flat(str(tiny_onnx), TEXTS, 200, connections=4)
    assert len(result["resident_bytes"]) == 10
    assert all(1e7 < size < 1e9 for size in result["resident_bytes"])


ENDLESS = {
    "a header": (b"POST /predict HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 10_000),
    "many headers": (b"POST /predict HTTP/1.1\r\nHost: x\r\n", b"X: a\r\n" * 2_000),
    "the address": (b"POST /predict?", b"a" * 10_000),
    "a chunk's extension": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 10_000),
    "a trailer": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ", b"a" * 10_000),
}


def test_what_does_not_end_is_cut_off(tiny_onnx: Path) -> None:
    with serving("-m", "serve", str(tiny_onnx), *OPTIONS) as (_, url):
        host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()  # type: ignore[union-attr]
        for start, part in ENDLESS.values():
            with socket.create_connection((host, int(port)), timeout=WAIT) as connection:
                connection.sendall(start)
                with pytest.raises(ConnectionError):
                    for _ in range(500):
                        connection.sendall(part)
                        time.sleep(0.001)
        assert ask(url, "/predict", {"inputs": "good film"})[0] == 200
