"""A calibration of a temperature alone, and rows that a model is right about as often as a temperature says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.data import rows, write_csv
from toolkit.bundle.calibration import Calibration
from toolkit.inference.metrics import softmax
from toolkit.inference.predictor import open_predictor


def calibration(*temperatures: float) -> Calibration:
    return {
        "temperature": list(temperatures), "rows": 200, "rows_of": "a half of test", "rows_sha256": "0" * 64,
        "reported_rows": 200, "reported_rows_of": "the other half of test", "ece_before": 0.05, "ece_after": 0.02,
        "ece_by_chance": 0.02, "log_loss_before": 0.5, "log_loss_after": 0.4,
        "thresholds": [],
    }  # fmt: skip


def write_rows_of_temperature(path: Path, model: Path, temperature: float, count: int, seed: int) -> None:
    """Label texts by chance, as a model's logits divided by the temperature state it."""
    texts = [text for text, _ in rows(count, seed=seed)]
    predictor = open_predictor(model, threads=1)
    probabilities = softmax(predictor.logits(predictor.encoder.encode(texts)) / temperature)
    positive = np.random.default_rng([seed, 1]).random(count) < probabilities[:, 1]
    write_csv(path, list(zip(texts, positive.astype(int).tolist(), strict=True)))
