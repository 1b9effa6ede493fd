"""Tables of README.md and docs/, from made-up results."""

from __future__ import annotations

import json

from benchmarks.paths import RESULTS, SERVE
from benchmarks.tables import promises, serving


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
    overload, chaos, flat, scores, fallback = (
        json.loads((RESULTS / f"serve_{name}.json").read_text(encoding="utf-8")) for name in SERVE
    )
    overload["statuses"] |= {"500": 3, "0": 4}
    chaos["fault_count"], flat["growth"] = 5, 0.25
    scores["rows"][0]["identical"] -= 1
    asked = sum(phase["requests"] for phase in fallback["phases"].values())
    fallback["phases"]["killed"] |= {"answered": fallback["phases"]["killed"]["requests"] - 2, "slowest_ms": 2100.4}
    fallback["faults"] = ["two"]
    text = promises(overload, chaos, flat, scores, fallback)
    assert ", 7 others;" in text
    assert " 5 faults," in text
    assert "memory +25.0 %" in text
    assert "2,999 of 3,000" in text
    assert f"{asked - 2:,} of {asked:,} requests answered, the slowest after 2100 ms; 1 faults." in text
