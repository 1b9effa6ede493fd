"""Options of `toolkit bench`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, at_least, option, positive

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class BenchConfig(Config):
    """Options of `toolkit bench`."""

    bundles: tuple[str, ...] = argument("bundles to measure")
    baseline: str = option("bert-base", "bert-base (its architecture, random weights) or a directory")
    device: str = option("cpu", "cpu or cuda")
    out: str | None = option(None, "directory for the reports [default: BUNDLE-bench beside the first bundle]")
    data: str | None = option(None, "folder with the dev file whose texts are timed too [default: the embedded data]")
    threads: int = option(0, "threads of each side; 0 takes every physical core")
    batch_sizes: tuple[int, ...] = option((1, 8), "batch sizes to time, each at --length")
    length: int = option(128, "tokens of the timed inputs")
    size_claim: float = option(7.5, "times smaller than the baseline in fp32: the architecture in fp32, and as given")
    speed_claim: float = option(9.4, "times faster than the baseline, both fp32 ONNX")
    max_pairs: int = option(30, "timed pairs at most for each comparison")
    seed: int = option(42, "of the timed inputs")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if not self.bundles:
            yield "no bundle given: expected at least one directory"
        if self.device not in DEVICES:
            yield f"--device {self.device}: expected one of {', '.join(DEVICES)}"
        yield from at_least(0, threads=self.threads)
        yield from at_least(2, length=self.length)
        yield from at_least(5, max_pairs=self.max_pairs)
        for size in self.batch_sizes:
            yield from at_least(1, batch_size=size)
        yield from positive(size_claim=self.size_claim, speed_claim=self.speed_claim)
