"""The simulation of promises: by hand, and on scores whose truth is known."""

from __future__ import annotations

import numpy as np

from benchmarks.inference.thresholds import guaranteed, off_the_curve, simulate


def scores(rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Make answers that are right exactly as often as their confidence says."""
    generator = np.random.default_rng(3)
    confidence = generator.uniform(0.5, 1.0, rows)
    return confidence, generator.random(rows) < confidence


def test_the_three_fractions_by_hand() -> None:
    confidence, right = np.array([0.9] * 10), np.array([True] * 9 + [False])
    always = simulate(confidence, right, lambda *_: 0.5, share=0.95, rows=2, draws=50)
    assert always["none"] == 0.0
    assert always["coverage"] == 1.0
    # broken unless the wrong row is one of the two that are drawn
    assert 0.6 < always["broken"] < 0.95
    assert simulate(confidence, right, lambda *_: None, share=0.5, rows=2, draws=5) == {
        "broken": 0.0, "none": 1.0, "coverage": 0.0,
    }  # fmt: skip


def test_the_bound_keeps_what_the_curve_breaks() -> None:
    confidence, right = scores()
    kept = simulate(confidence, right, guaranteed(0.85, 0.95), share=0.85, rows=1000, draws=100)
    curve = simulate(confidence, right, off_the_curve(0.85), share=0.85, rows=1000, draws=100)
    assert kept["none"] < 0.2
    assert kept["broken"] <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5
    assert curve["broken"] > 0.25
    assert kept["coverage"] < curve["coverage"]
