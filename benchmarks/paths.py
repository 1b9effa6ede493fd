"""Paths of the stored results of the benchmarks, and of the pictures of README."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PICTURE, TERMINAL = ROOT / "docs" / "gain.svg", ROOT / "docs" / "demo.svg"
SERVE = ("overload", "chaos", "flat", "scores", "fallback_chaos")
DEMO, GLUE, SCALE, SIZES, SPEED, ABLATIONS, AUGMENT, STEP, LOAD, GPU, THRESHOLDS, PAPER_SIZE, SCORE, CALIBRATION = (
    RESULTS / f"{name}.json" for name in (
        "demo", "glue", "scale", "export_quality", "export_speed", "ablations", "augment_speed", "distill_step",
        "serve_load", "gpu", "thresholds", "paper_size", "score", "calibration",
    )
)  # fmt: skip
