"""README's table of results, from a report's figures."""

from __future__ import annotations

import json

from benchmarks.paths import DEMO
from benchmarks.publish import _without_samples
from benchmarks.tables import front


def test_scenarios_are_shown_without_their_samples() -> None:
    demo = json.loads(DEMO.read_text(encoding="utf-8"))
    name = next(model["name"] for model in demo["measured"] if not model["baseline"])
    rows = []
    for label, p50, rate in (
        ("BERT-base, fp32 ONNX", 40.0, 30.0),
        ("tinybert4, fp32 ONNX", 5.0, 400.0),
        (f"{name}, int8 ONNX", 2.04, 1234.5),
    ):
        shared = {"model": label, "queries": 256}
        times = {"p50_ms": p50, "p90_ms": 2 * p50, "p99_ms": None, "samples_ms": [p50]}
        rows += [
            shared | times | {"scenario": "single", "length": None},
            shared | times | {"scenario": "single", "length": 128, "p50_ms": 999.0},
            shared | {"scenario": "offline", "length": None, "texts_per_s": rate, "samples_per_s": [rate]},
        ]
    stored = [_without_samples(row) for row in rows]
    assert "samples" not in json.dumps(stored)
    text = front(demo | {"scenarios": stored})
    assert "| BERT-base, fp32 ONNX | 40.0 | 80.0 | - | 30 |" in text
    assert "| TinyBERT4, fp32 ONNX | 5.0 | 10.0 | - | 400 |" in text
    assert "| TinyBERT4, int8 ONNX | 2.0 | 4.1 | - | 1,234 |" in text
    assert "999" not in text
    assert "all at once" not in front(demo | {"scenarios": []})
    models = {name: {**model, "split": "test"} for name, model in demo["models"].items()}
    text = front(demo | {"models": models, "scored_rows": 321})
    assert "| model | test accuracy |" in text
    assert "Rotten Tomatoes, 321 test sentences;" in text
