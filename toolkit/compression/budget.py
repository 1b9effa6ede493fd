"""The limits of a search: what breaks them, by how much, and which would have to give."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit.config import CompressConfig


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        latency_ms: mean time of a text.
        size_mb: of the graph with its weights.
        drop: points of the metric that are lost against the teacher on dev; None before training.
    """

    latency_ms: float
    size_mb: float
    drop: float | None = None


@dataclass(frozen=True)
class Budget:
    """The most that a model may cost; None sets no limit."""

    latency_ms: float | None
    size_mb: float | None
    drop: float | None

    @classmethod
    def of(cls, config: CompressConfig) -> Budget:
        """Read the limits of the options."""
        return cls(config.max_latency_ms, config.max_size_mb, config.max_drop)

    def excess(self, cost: Cost) -> float:
        """Return by what fraction the worst limit is broken, 0 where all hold; a point lost counts as one hundredth."""
        parts = [0.0]
        if self.latency_ms is not None:
            parts.append(cost.latency_ms / self.latency_ms - 1)
        if self.size_mb is not None:
            parts.append(cost.size_mb / self.size_mb - 1)
        if self.drop is not None and cost.drop is not None:
            parts.append((cost.drop - self.drop) / 100)
        return max(parts)

    def holds(self, cost: Cost) -> bool:
        """Tell whether a cost is within all limits."""
        return self.excess(cost) <= 0

    def gives(self, cost: Cost) -> str:
        """Name the options that would let a cost in, each with the least value that does."""
        options = []
        if self.latency_ms is not None and cost.latency_ms > self.latency_ms:
            options.append(f"--max-latency-ms {_above(cost.latency_ms)}")
        if self.size_mb is not None and cost.size_mb > self.size_mb:
            options.append(f"--max-size-mb {_above(cost.size_mb)}")
        if self.drop is not None and cost.drop is not None and cost.drop > self.drop:
            options.append(f"--max-drop {_above(cost.drop)}")
        return " ".join(options)

    def __str__(self) -> str:
        limits = ((self.latency_ms, "ms a text"), (self.size_mb, "MB"), (self.drop, "points lost"))
        return ", ".join(f"at most {limit:g} {unit}" for limit, unit in limits if limit is not None)


def _above(value: float) -> str:
    """Round a value up to three digits."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{math.ceil(value * 10**digits - 1e-9) / 10**digits:g}"
