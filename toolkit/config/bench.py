"""Options of `toolkit bench`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from toolkit.config.base import (
    Config,
    argument,
    at_least,
    column_option,
    data_problems,
    dev_share_option,
    option,
    positive,
    skip_option,
)

DEVICES = ("cpu", "cuda", "auto")
SCENARIOS = ("single", "offline", "server")
PRECISIONS = ("fp32", "bf16", "fp16")
PRESETS = {"paper": {"batch_sizes": (128,), "length": 128}}
GRID = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256)}
BERT_BASE = "bert-base"
SIZE_CLAIM, SPEED_CLAIM = 7.5, 9.4  # TinyBERT4 against BERT-base, arXiv 1909.10351, table 1
MIN_REPLICATES = 3  # Student's t with one degree of freedom says nothing


@dataclass(frozen=True)
class BenchConfig(Config):
    """Options of `toolkit bench`."""

    bundles: tuple[str, ...] = argument("bundles to measure; with --compare two report.json, the old one first")
    baseline: str = option(BERT_BASE, "bert-base (its architecture, random weights) or a directory", "Models", "DIR")
    device: str = option("cpu", "cpu, cuda, or auto: a GPU where there is one", "Hardware")
    preset: str | None = option(None, "paper: batch 128, length 128, as TinyBERT was timed", "Inputs")
    out: str | None = option(
        None, "directory for the reports [default: BUNDLE-bench beside the first bundle]", "Output", "DIR"
    )
    data: str | None = option(
        None, "data whose dev texts are timed too, as finetune takes it [default: the embedded]", "Inputs", "DATA"
    )
    text_column: str | None = column_option("text", "Inputs")
    pair_column: str | None = column_option("pair", "Inputs")
    label_column: str | None = column_option("label", "Inputs")
    dev_share: float | None = dev_share_option("Inputs")
    skip_bad_rows: bool = skip_option("Inputs")
    threads: int = option(0, "threads of each side; 0 takes every physical core", "Hardware")
    batch_sizes: tuple[int, ...] = option((1, 8), "batch sizes to time, each at --length", "Inputs")
    length: int = option(128, "tokens of the timed inputs", "Inputs")
    precisions: tuple[str, ...] = option(
        (), "PyTorch precisions [default: fp32; on CUDA fp32, bf16 and fp16]", "Hardware"
    )
    grid: tuple[int, ...] = option(
        (), "batch sizes of the throughput plot [default: 1 to 32; on CUDA 1 to 256]", "Inputs"
    )
    scenarios: str = option(
        "single,offline", "scenarios to run, separated by commas: single, offline, server", "Scenarios", "NAMES"
    )
    queries: int = option(256, "texts of the task that the scenarios ask at most", "Scenarios")
    rate: float = option(20.0, "requests a second at which the server scenario gives its latencies", "Scenarios")
    latency_bound_ms: float = option(100.0, "p99 that the server scenario's highest rate must keep", "Scenarios", "MS")
    replicates: int = option(
        0, "fresh processes to repeat the claimed comparison in; 0, or 3 and more", "Claims and statistics"
    )
    peers: bool = option(False, "time CTranslate2, OpenVINO and torch.compile too (extra peers)", "Models")
    compare: bool = option(
        False, "list what is slower in the second report.json than in the first; exit 1 if anything is", "Models"
    )
    size_claim: float | None = option(
        None, "times smaller than the baseline, in fp32 and as given [default: 7.5 against bert-base]",
        "Claims and statistics",
    )  # fmt: skip
    speed_claim: float | None = option(
        None, "times faster than the baseline, both fp32 ONNX [default: 9.4 against bert-base]", "Claims and statistics"
    )
    max_pairs: int = option(30, "timed pairs at most for each comparison", "Claims and statistics")
    seed: int = option(42, "seed of the timed inputs", "Inputs")

    @property
    def chosen_scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios in `--scenarios`."""
        return tuple(name.strip() for name in self.scenarios.split(",") if name.strip())

    def on(self, device: str) -> BenchConfig:
        """Fill in the preset, the defaults for a device, "cpu" or "cuda", and what the paper claims over BERT-base."""
        config = replace(self, device=device, **PRESETS.get(self.preset or "", {}))  # type: ignore[arg-type]
        if self.baseline == BERT_BASE:
            config = replace(
                config, size_claim=SIZE_CLAIM if config.size_claim is None else config.size_claim,
                speed_claim=SPEED_CLAIM if config.speed_claim is None else config.speed_claim,
            )  # fmt: skip
        precisions = PRECISIONS if device == "cuda" else PRECISIONS[:1]
        return replace(config, precisions=config.precisions or precisions, grid=config.grid or GRID[device])

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        if self.compare:
            if len(self.bundles) != 2:
                yield f"--compare with {len(self.bundles)} arguments: expected two report.json, the old one first"
            return
        if not self.bundles:
            yield "no bundle given: expected at least one directory"
        yield from _choice_problems("device", [self.device], DEVICES)
        yield from _choice_problems("preset", [self.preset] if self.preset else [], tuple(PRESETS))
        yield from _choice_problems("precisions", self.precisions, PRECISIONS)
        yield from _choice_problems("scenarios", self.chosen_scenarios, SCENARIOS)
        if self.preset and self.batch_sizes != BenchConfig.batch_sizes:
            yield f"--preset {self.preset} with --batch-sizes: expected one of them, the preset has its own"
        if 0 < self.replicates < MIN_REPLICATES or self.replicates < 0:
            yield f"--replicates {self.replicates}: expected 0, or {MIN_REPLICATES} or more"
        yield from data_problems(self)
        yield from at_least(0, threads=self.threads)
        yield from at_least(1, queries=self.queries)
        yield from at_least(2, length=self.length)
        yield from at_least(5, max_pairs=self.max_pairs)
        for size in (*self.batch_sizes, *self.grid):
            yield from at_least(1, batch_size=size)
        yield from positive(
            size_claim=self.size_claim, speed_claim=self.speed_claim, rate=self.rate,
            latency_bound_ms=self.latency_bound_ms,
        )  # fmt: skip


def _choice_problems(name: str, values: Sequence[str], choices: tuple[str, ...]) -> Iterator[str]:
    for value in values:
        if value not in choices:
            yield f"--{name} {value}: expected one of {', '.join(choices)}"
