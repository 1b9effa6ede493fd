"""MLPerf's inference scenarios over the task's own texts, tokenization on the clock: single stream and offline.

Single stream: one text at a time, the next when the last is answered; what counts is the latency, p50, p90 and p99.
Offline: all texts at hand at once; what counts is texts a second. (The third, server, is in
`toolkit.bench.server.load_generator`.)
Beside them, what needs no text: latency by length, and throughput by batch size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from toolkit.bench.comparisons import BenchContext, random_batch
from toolkit.bench.models import BenchModel
from toolkit.bench.runners import Runner
from toolkit.console import progress
from toolkit.data.datasets import Split
from toolkit.data.tokenization import TextEncoder
from toolkit.measurement.statistics import percentile
from toolkit.measurement.timing import measure_in_turn, timed_ms, warm_up

MIN_QUERIES = 100  # for a p99
SCENARIO_S = 5.0  # of one scenario and contender, once it has its queries
PASSES = 3
LENGTHS = (16, 32, 64, 128)
LENGTH_ROUNDS, GRID_ROUNDS = 7, 3
GRID_RUN_S = 1.5  # a larger batch that would run for longer is left out


def text_scenarios(setting: BenchContext) -> list[dict[str, Any]]:
    """Single stream, at the task's own lengths and padded to --length, and offline, as --scenarios asks."""
    wanted = [one for one in setting.config.chosen_scenarios if one != "server"]
    found: list[dict[str, Any]] = []
    chosen = [subject for subject in setting.subjects if subject.name in setting.splits]
    runs: list[Callable[[], dict[str, Any]]] = []
    for subject in chosen if wanted else []:
        first, encoder = setting.encoders(subject)
        for one in setting.stable.lineup(setting.baseline, [subject]):
            own = first if one.subject is setting.baseline else encoder
            runs += _runs(setting, subject, one, own, wanted)
    with progress("scenarios", len(runs)) as bar:
        for run in runs:
            found.append(run())
            bar.advance()
    return list({(one["scenario"], one["model"], one["length"]): one for one in found}.values())


def _runs(
    setting: BenchContext, subject: BenchModel, one: Runner, encoder: TextEncoder, wanted: Sequence[str]
) -> list[Callable[[], dict[str, Any]]]:
    config, split = setting.config, setting.splits[subject.name]
    found: list[Callable[[], dict[str, Any]]] = []
    if "single" in wanted:
        found += [lambda: single(one, encoder, split), lambda: single(one, encoder, split, config.length)]
    if "offline" in wanted:
        found.append(lambda: offline(one, encoder, split))
    return found


def single(one: Runner, encoder: TextEncoder, split: Split, length: int | None = None) -> dict[str, Any]:
    """One text at a time, each once, at their own lengths or padded to `length`: every latency in ms."""

    def ask(row: int) -> Callable[[], object]:
        pair = None if split.pairs is None else split.pairs[row]
        return lambda: one.answer(encoder, split.texts[row], pair, length)

    warm = warm_up(ask(0))
    times: list[float] = []
    for row in range(len(split)):
        times.append(timed_ms(ask(row), settle=False))
        if len(times) >= MIN_QUERIES and sum(times) > 1000 * SCENARIO_S:
            break
    shares = {f"p{round(100 * share)}_ms": percentile(times, share) for share in (0.5, 0.9, 0.99)}
    about = {"scenario": "single", "model": one.label, "score": one.score, "length": length, "source": split.source}
    return {**about, "queries": len(times), "steady": warm.steady, **shares, "samples_ms": times}


def offline(one: Runner, encoder: TextEncoder, split: Split) -> dict[str, Any]:
    """All texts, tokenized, batched by length and answered: texts a second, the median of a few passes."""
    few = split.subsample(MIN_QUERIES // 2, 0)
    warm = warm_up(lambda: one.answer_all(encoder, few.texts, few.pairs))
    rates: list[float] = []
    started = time.perf_counter()
    while len(rates) < PASSES and (not rates or time.perf_counter() - started < SCENARIO_S):
        taken = timed_ms(lambda: one.answer_all(encoder, split.texts, split.pairs), settle=False)
        rates.append(1000 * len(split) / taken)
    about = {"scenario": "offline", "model": one.label, "score": one.score, "length": None, "source": split.source}
    per_s = float(np.median(rates))
    return {**about, "queries": len(split), "steady": warm.steady, "texts_per_s": per_s, "samples_per_s": rates}


def latency_by_length(setting: BenchContext) -> list[dict[str, Any]]:
    """Median latency of one input of each length, all contenders in turn."""
    config = setting.config
    lengths = sorted({length for length in LENGTHS if length < config.length} | {config.length})
    lineup = setting.stable.lineup(setting.baseline, setting.subjects)
    found = []
    with progress("latency by length", len(lengths)) as bar:
        for length in lengths:
            batch = random_batch(1, length, setting.vocabulary, config.seed)
            times = measure_in_turn({one.label: one.program(batch) for one in lineup}, LENGTH_ROUNDS)
            found += [
                {"model": name, "length": length, "samples_ms": taken, "median_ms": float(np.median(taken))}
                for name, taken in times.items()
            ]
            bar.advance()
    return found


def throughput_by_batch(setting: BenchContext) -> list[dict[str, Any]]:
    """Inputs of --length a second at each batch size of --grid, each contender alone, in each PyTorch precision.

    A contender's larger batches are left out once a run would take longer than GRID_RUN_S, or memory runs out.
    """
    import torch

    config, stable = setting.config, setting.stable
    lineup = {one.label: one for one in stable.lineup(setting.baseline, setting.subjects)}
    for precision in config.precisions if config.precisions != ("fp32",) else ():
        for subject in (setting.baseline, *setting.subjects):
            one = stable.pytorch(subject, precision)
            lineup.setdefault(one.label, one)
    found: list[dict[str, Any]] = []
    with progress("throughput by batch size", len(lineup)) as bar:
        for name, one in lineup.items():
            per_input_ms = 0.0
            for size in sorted(set(config.grid)):
                if per_input_ms * size > 1000 * GRID_RUN_S:
                    break
                batch = random_batch(size, config.length, setting.vocabulary, config.seed)
                try:
                    times = measure_in_turn({name: one.program(batch)}, GRID_ROUNDS)[name]
                except torch.OutOfMemoryError:
                    break
                per_input_ms = float(np.median(times)) / size
                found.append({
                    "model": name, "batch_size": size, "length": config.length, "samples_ms": times,
                    "per_s": 1000 / per_input_ms,
                })  # fmt: skip
            bar.advance()
    return found
