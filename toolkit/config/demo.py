"""Options of `toolkit demo`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, at_least, option


@dataclass(frozen=True)
class DemoConfig(Config):
    """Options of `toolkit demo`."""

    out: str = option(
        "runs/demo", "directory for the bundles and the reports; steps that are there already are kept", "", "DIR"
    )
    quick: bool = option(False, "an eighth of the training rows and shorter timings: minutes, not results to quote")
    seed: int = option(42, "seed of every random draw")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        yield from at_least(0, seed=self.seed)
