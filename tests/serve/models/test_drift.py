"""The window of served texts: what it holds, what it forgets, and what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve.metrics import Metrics
from serve.models.drift import LEAST_INPUTS, SLICE_INPUTS, SLICE_S, SLICES, Drift
from toolkit.bundle.contents import read_baseline
from toolkit.bundle.format import open_bundle
from toolkit.inference.drift import Traits


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Shown:
    """A drift by the baseline of a bundle, and what the metrics show of it."""

    def __init__(self, bundle: Path) -> None:
        baseline = read_baseline(open_bundle(bundle))
        assert baseline is not None
        self.clock, self._metrics = Clock(), Metrics()
        self.labels = np.array(baseline["labels"])
        self.drift = Drift(baseline, self._metrics.drift, "films", self.clock)

    def add(self, inputs: int, *, label: int) -> None:
        """Inputs that are all of one label, and all alike."""
        labels, ones = np.zeros(3, dtype=np.int64), np.ones(inputs)
        labels[label] = inputs
        self.drift.add(Traits(labels, 0.7 * ones, 9 * ones, 0 * ones))

    def value(self, name: str, **labels: str) -> float | None:
        return self._metrics.registry.get_sample_value(name, {"model": "films", **labels})

    def index(self, of: str) -> float:
        value = self.value("te_drift_stability_index", of=of)
        assert value is not None
        return value


def test_nothing_is_judged_by_a_few_inputs(watched: Path) -> None:
    shown = Shown(watched)
    assert (shown.value("te_drift_inputs"), shown.index("labels")) == (0, 0)
    shown.add(LEAST_INPUTS - 1, label=1)
    assert (shown.value("te_drift_inputs"), shown.index("labels")) == (LEAST_INPUTS - 1, 0)
    shown.add(1, label=1)
    p = shown.labels / shown.labels.sum()
    low = 1e-4
    by_hand = (low - p[0]) * np.log(low / p[0]) + (1 - p[1]) * np.log(1 / p[1])
    assert shown.index("labels") == pytest.approx(by_hand)
    assert all(shown.index(of) > 0 for of in ("confidence", "length"))
    assert shown.index("unknown") == 0


def test_old_slices_go_as_new_ones_come(watched: Path) -> None:
    shown = Shown(watched)
    shown.add(1000, label=1)
    before = shown.index("labels")
    for _ in range(SLICES - 1):
        shown.clock.seconds += SLICE_S
        shown.add(SLICE_INPUTS, label=0)
    assert shown.value("te_drift_inputs") == 1000 + (SLICES - 1) * SLICE_INPUTS
    assert 0 < shown.index("labels") < before
    shown.clock.seconds += SLICE_S
    shown.add(1, label=0)
    assert shown.value("te_drift_inputs") == (SLICES - 1) * SLICE_INPUTS + 1, "the first one is gone"


def test_a_slice_needs_time_and_inputs(watched: Path) -> None:
    shown = Shown(watched)
    for _ in range(3 * SLICES):
        shown.add(SLICE_INPUTS, label=0)  # within one moment
    assert shown.value("te_drift_inputs") == 3 * SLICES * SLICE_INPUTS
    slow = Shown(watched)
    for _ in range(SLICE_INPUTS * SLICES):
        slow.clock.seconds += SLICE_S
        slow.add(1, label=0)
    assert slow.value("te_drift_inputs") == SLICE_INPUTS * SLICES, (
        "one text in five minutes: days are kept, not an hour"
    )
