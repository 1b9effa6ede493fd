"""Counts and durations in /metrics."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from serve.app import create_app
from serve.engine.limits import Limits
from tests.support.responses import sample


def test_metrics_count_every_request_once_and_what_became_of_it(tiny_onnx: Path) -> None:
    limits = Limits(workers=1, payload_limit=200)
    app, other = create_app(tiny_onnx, limits=limits), create_app(tiny_onnx)
    with TestClient(app) as client:
        for body in ({"inputs": "a"}, {"inputs": [["a"], ["the"]]}, {"inputs": []}, {}, {"inputs": "a" * 300}):
            client.post("/predict", json=body)
        client.post("/predict", json={"inputs": "a the " * 20, "truncate": False})
        client.get("/health")
        assert {m: sample(client, "te_request_count", method=m) for m in ("single", "batch", "invalid")} == {
            "single": 2, "batch": 1, "invalid": 3,
        }  # fmt: skip
        assert {m: sample(client, "te_request_success", method=m) for m in ("single", "batch")} == {
            "single": 1, "batch": 1,
        }  # fmt: skip
        assert sample(client, "te_request_failure", err="validation") == 4
        for name in ("", "_tokenization", "_queue", "_inference"):
            assert sample(client, f"te_request{name}_duration_count", model="onnx") == 2
            assert 0 <= sample(client, f"te_request{name}_duration_sum", model="onnx") < 60
        assert sample(client, "te_batch_next_size_sum", model="onnx") == 3
        assert sample(client, "te_batch_next_tokens_sum", model="onnx") == 9  # [CLS] word [SEP] each
        assert sample(client, "te_predict_count") == 4, "inputs of requests that are well-formed"
        assert sample(client, "te_predict_success") == 3
        for name in ("", "_tokenization", "_queue", "_inference"):
            for part in ("count", "sum"):
                request = sample(client, f"te_request{name}_duration_{part}", model="onnx")
                assert sample(client, f"te_predict{name}_duration_{part}", model="onnx") == request
        assert sample(client, "te_request_input_length_count", model="onnx") == 3, "a refused input has no length"
        assert sample(client, "te_request_input_length_sum", model="onnx") == 9
        assert sample(client, "te_request_input_length_bucket", le="2.0", model="onnx") == 0
        assert sample(client, "te_request_input_length_bucket", le="4.0", model="onnx") == 3
        assert sample(client, "te_queue_size") == 0
        shown = client.get("/metrics")
        families = list(text_string_to_metric_families(shown.text))
        assert len({family.name for family in families}) == len(families), "a family stands in the text twice"
        assert "_total{" not in shown.text.replace("process_cpu_seconds_total", "")
        assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
    with TestClient(other) as client:
        assert sample(client, "te_request_count", method="single") == 0
