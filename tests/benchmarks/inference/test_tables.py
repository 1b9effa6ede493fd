"""Tables of thresholds, calibration and scoring say what the stored results hold."""

from __future__ import annotations

from benchmarks.inference.tables import calibration, scoring, thresholds


def test_thresholds_stand_beside_their_control() -> None:
    run = {"share": 0.98, "rows": 1000, "none": 0.25, "coverage": 0.5}
    runs = [run | {"threshold": "guaranteed", "broken": 0.01}, run | {"threshold": "off the curve", "broken": 0.3}]
    text = thresholds({
        "sentences": 6000, "agreement": 0.9278, "certainty": 0.95, "draws": 200, "runs": runs,
    })  # fmt: skip
    assert "| 98 % | 1,000 | 1.0 % | 30.0 % | 25.0 % | 50.0 % |" in text
    assert "to 92.8 % of all. A guarantee of 95 % may break in 5 % of draws" in text


def test_scoring_stands_beside_the_engine() -> None:
    text = scoring({
        "cpus": 2, "rows": [50_000, 200_000], "rate_ratio": 0.964, "memory_ratio": 1.012, "same_bytes": False,
        "rounds": [{"score": 1900.0, "engine": 2000.0}, {"score": 1928.0, "engine": 2000.0}],
        "peak_bytes": {"200000": 340e6, "50000": 336e6}, "kills": [{"seconds": 12.2, "parts": 9}],
    })  # fmt: skip
    assert "- 200,000 IMDb sentences on 2 CPUs" in text
    assert "1,914 texts a second, 96.4 % of the engine's own 2,000 over texts in memory (median of 2 pairs)" in text
    assert "- Peak memory: 336 MB at 50,000 rows and 340 MB at 200,000 rows, +1.2 %." in text
    assert "- Killed after 12 s (9 parts) and given again: other bytes" in text


def test_errors_stand_beside_those_of_true_probabilities() -> None:
    run = {"task": "cola", "learnt": 3000, "rows": 2000, "reported": 3551, "draws": 200, "temperature": 1.5}
    errors = {"before": 0.1212, "after": 0.0308, "chance": 0.013}
    text = calibration([run | errors | {"precision": "int8"}])
    assert "| cola, int8 | 3,000, 2,000, 3,551 | 1.50 | 12.12 % | 3.08 % | 1.30 % |" in text
    assert "Means over 200 draws of the rows that fit, out of" in text
