"""README's table of results, from a report's figures."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.distillation.ablations import store
from benchmarks.paths import DEMO, RESULTS
from benchmarks.publish import _without_samples
from benchmarks.tables import ablations, augmentation, front, promises, serving


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


def test_what_a_part_is_worth_is_told_against_the_whole() -> None:
    def row(variant: str, task: str, start: float, student: float) -> dict[str, object]:
        return {
            "variant": variant, "task": task, "seed": 1, "start": start, "student": student, "retention": student + 10
        }  # fmt: skip

    rows = [
        row("full", "a", 60, 80),
        row("no hidden", "a", 60, 78),
        row("full", "b", 40, 50),
        row("no hidden", "b", 40, 51),
    ]
    text = ablations({
        "settings": {"max_rows": 2000}, "paper": {"full": 75.6, "no hidden": 72.9}, "rows": rows
    })  # fmt: skip
    assert "| full | 2 | 50.0 | 65.0 | 75.0 | +0.0 ± 0.0 | +0.0 |" in text
    assert "| no hidden | 2 | 50.0 | 64.5 | 74.5 | -0.5 ± 2.1 | -2.7 |" in text
    assert text.endswith("a, b; seeds 1; 2,000 training rows.\n")


def test_each_way_of_augmenting_is_told_with_what_it_does_to_candidates() -> None:
    def way(together: int, precision: str, **figures: float) -> dict[str, object]:
        return {"together": together, "precision": precision, **figures}

    speeds = {"cpu_ratio": 20.5, "ratio": 99.0}  # by the clock, which other programs disturb
    text = augmentation({
        "environment": {"cpu": "a CPU"},
        "speed": {"model": "M", "sentences": 12, "threads": 1, "repeats": 3, "rows": [way(4, "bf16", **speeds)]},
        "agreement": {
            "model": "T", "words": 700, "of_another_word": {"same": 0.1, "log_probability": -8.0},
            "rows": [way(1, "fp32", same=1.0, log_probability=-4.0), way(4, "bf16", same=0.934, log_probability=-4.42)],
        },
        "memory": [{"rows": 10_000, "peak_mb": 900}, {"rows": 100_000, "peak_mb": 1000}],
    })  # fmt: skip
    assert "| 4 | bf16 | 20.5x | 93.4 % | -4.42 |" in text
    assert "1 thread(s) of a CPU" in text
    assert "10.0 % and -8.00" in text
    assert text.endswith("900 MB for 10,000 rows, 1,000 MB for 100,000 rows.\n")


def test_runs_are_kept_until_they_are_made_anew_or_with_other_settings(tmp_path: Path) -> None:
    def run(seed: int, variant: str, student: float) -> dict[str, object]:
        return {"seed": seed, "task": "cola", "variant": variant, "student": student}

    path, few, more = tmp_path / "ablations.json", {"max_rows": 100}, {"max_rows": 200}
    for row in (run(2, "full", 1.0), run(1, "no hidden", 2.0), run(1, "full", 3.0), run(2, "full", 4.0)):
        content = store(row, few, path)
    assert content["rows"] == [run(1, "full", 3.0), run(1, "no hidden", 2.0), run(2, "full", 4.0)]
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert store(run(3, "full", 5.0), more, path)["rows"] == [run(3, "full", 5.0)]


def test_servers_are_told_from_the_fastest_to_the_slowest() -> None:
    def measured(rate: float) -> dict[str, object]:
        return {"texts_per_s": rate, "p50_ms": 1.25, "p99_ms": 2.5, "rounds": [[rate, 1.25, 2.5]] * 4}

    text = serving({
        "texts": 4000, "connections": 32, "environment": {"logical_cores": 2, "cpu": "X"},
        "contenders": {"theirs": measured(500.0), "ours": measured(1000.0), "engine": measured(2000.0)},
        "ratios": {"theirs": {"rate_ratio": 2.0}, "engine": {"rate_ratio": 0.5}, "server": "ours"},
    })  # fmt: skip
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| engine | 2,000 | 1.2 | 2.5 | 0.50x |", "| ours | 1,000 | 1.2 | 2.5 | - |",
        "| theirs | 500 | 1.2 | 2.5 | 2.00x |",
    ]  # fmt: skip
    assert "4,000 texts a round, 32 connections, medians of 4 interleaved rounds" in text


def test_a_promise_that_was_broken_is_told() -> None:
    overload, chaos, flat, scores = (
        json.loads((RESULTS / f"serve_{name}.json").read_text(encoding="utf-8"))
        for name in ("overload", "chaos", "flat", "scores")
    )
    overload["statuses"] |= {"500": 3, "0": 4}
    chaos["fault_count"], flat["growth"] = 5, 0.25
    scores["rows"][0]["identical"] -= 1
    text = promises(overload, chaos, flat, scores)
    assert ", 7 others;" in text
    assert " 5 faults," in text
    assert "memory +25.0 %" in text
    assert "2,999 of 3,000" in text
