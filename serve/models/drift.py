"""Drift of served texts: a sliding window of them against the baseline of the model's bundle."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from serve.metrics import DriftMetrics
from toolkit.bundle.baseline import Baseline
from toolkit.inference.drift import Reference, Traits

SLICES, SLICE_S = 12, 300.0  # an hour
SLICE_INPUTS = 250  # at least: with few inputs a window is longer, so that chance does not look like drift
LEAST_INPUTS = 500  # of a window that is judged


class Drift:
    """Counts inputs in bins, in a ring of slices, and shows their population stability index.

    A slice is full once it has lasted SLICE_S and holds SLICE_INPUTS: the window is the last hour, or where that had
    fewer than 3,000 inputs about as many. Memory is that of the bins, whatever is served.

    Args:
        baseline: of the bundle.
        metrics: of the server.
        name: of the model.
        clock: returns seconds.
    """

    def __init__(
        self, baseline: Baseline, metrics: DriftMetrics, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reference, self._clock = Reference(baseline), clock
        self._counts = np.zeros((SLICES, self._reference.size), dtype=np.int64)
        self._inputs, self._slice, self._ends = np.zeros(SLICES, dtype=np.int64), 0, clock() + SLICE_S
        self._shown = metrics.inputs.labels(name)
        self._indices = {trait: metrics.index.labels(name, trait) for trait in self._reference.names}
        self._hidden = False
        self.show()

    def add(self, traits: Traits) -> None:
        """Count inputs, at least one."""
        if self._clock() >= self._ends and self._inputs[self._slice] >= SLICE_INPUTS:
            self._slice = (self._slice + 1) % SLICES
            self._ends = self._clock() + SLICE_S
            self._counts[self._slice], self._inputs[self._slice] = 0, 0
        self._counts[self._slice] += self._reference.count(traits)
        self._inputs[self._slice] += len(traits.length)
        if not self._hidden:
            self.show()

    def show(self) -> None:
        """Show the drift of this model, which answers now."""
        self._hidden = False
        self._set(int(self._inputs.sum()))

    def hide(self) -> None:
        """Show none: another model of this name answers, and may have no baseline."""
        self._hidden = True
        self._set(0)

    def _set(self, inputs: int) -> None:
        self._shown.set(inputs)
        indices = self._reference.indices(self._counts.sum(axis=0)) if inputs >= LEAST_INPUTS else {}
        for trait, gauge in self._indices.items():
            gauge.set(indices.get(trait, 0.0))
