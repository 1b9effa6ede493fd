"""MLPerf's inference scenarios over the task's own texts, tokenization on the clock: single stream and offline.

Single stream: one text at a time, the next when the last is answered; its figure is the latency, p50, p90 and p99.
Offline: all texts at hand at once; its figure is texts a second. (The third, server, is in
`toolkit.benchmarking.server.load_generator`.)
Beside them, two sweeps over random inputs: latency by length, and throughput by batch size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from toolkit.benchmarking.comparisons import BenchContext, random_batch
from toolkit.benchmarking.results import BatchPoint, LengthPoint, Offline, Scenario, SingleStream
from toolkit.benchmarking.runners import Runner
from toolkit.console import progress
from toolkit.data.datasets import Split
from toolkit.data.tokenization import TextEncoder
from toolkit.measurement.statistics import percentile
from toolkit.measurement.timing import measure_in_turn, timed_ms, warm_up

MIN_QUERIES = 100  # for a p99
SCENARIO_S = 5.0  # of one scenario and runner, once it has its queries
PASSES = 3
LENGTHS = (16, 32, 64, 128)
LENGTH_ROUNDS, GRID_ROUNDS = 7, 3
GRID_RUN_S = 1.5  # a larger batch that would run for longer is left out


def text_scenarios(context: BenchContext) -> list[Scenario]:
    """Run single stream, at the task's own lengths and padded to --length, and offline, as --scenarios asks."""
    names = [name for name in context.config.chosen_scenarios if name != "server"]
    runs: list[Callable[[], Scenario]] = []
    for model in context.models if names else []:
        if model.name not in context.splits:
            continue
        split, (baseline_encoder, encoder) = context.splits[model.name], context.encoders(model)
        for runner in context.runners.all_runners(context.baseline, [model]):
            reader = baseline_encoder if runner.model is context.baseline else encoder
            if "single" in names:
                runs += [partial(single, runner, reader, split, length) for length in (None, context.config.length)]
            if "offline" in names:
                runs.append(partial(offline, runner, reader, split))
    scenarios: dict[tuple[str, str, int | None], Scenario] = {}
    with progress("scenarios", len(runs)) as bar:
        for run in runs:
            scenario = run()
            scenarios[scenario.scenario, scenario.model, scenario.length] = scenario
            bar.advance()
    return list(scenarios.values())


def single(runner: Runner, encoder: TextEncoder, split: Split, length: int | None = None) -> SingleStream:
    """Ask for one text at a time, each once, at their own lengths or padded to `length`; time every answer."""

    def ask(row: int) -> Callable[[], object]:
        pair = None if split.pairs is None else split.pairs[row]
        return lambda: runner.answer(encoder, split.texts[row], pair, length)

    warm = warm_up(ask(0))
    times: list[float] = []
    for row in range(len(split)):
        times.append(timed_ms(ask(row), settle=False))
        if len(times) >= MIN_QUERIES and sum(times) > 1000 * SCENARIO_S:
            break
    return SingleStream(
        model=runner.label, score=runner.score, length=length, source=split.source, queries=len(times),
        steady=warm.steady, p50_ms=percentile(times, 0.5), p90_ms=percentile(times, 0.9),
        p99_ms=percentile(times, 0.99), samples_ms=times,
    )  # fmt: skip


def offline(runner: Runner, encoder: TextEncoder, split: Split) -> Offline:
    """Tokenize all texts, batch them by length and answer them; the median of a few passes counts."""
    few = split.subsample(MIN_QUERIES // 2, 0)
    warm = warm_up(lambda: runner.answer_all(encoder, few.texts, few.pairs))
    rates: list[float] = []
    started = time.perf_counter()
    while len(rates) < PASSES and (not rates or time.perf_counter() - started < SCENARIO_S):
        taken_ms = timed_ms(lambda: runner.answer_all(encoder, split.texts, split.pairs), settle=False)
        rates.append(1000 * len(split) / taken_ms)
    return Offline(
        model=runner.label, score=runner.score, length=None, source=split.source, queries=len(split),
        steady=warm.steady, texts_per_s=float(np.median(rates)), samples_per_s=rates,
    )  # fmt: skip


def latency_by_length(context: BenchContext) -> list[LengthPoint]:
    """Time one input of each length, all runners in turn."""
    config = context.config
    lengths = sorted({length for length in LENGTHS if length < config.length} | {config.length})
    runners = context.runners.all_runners(context.baseline, context.models)
    points = []
    with progress("latency by length", len(lengths)) as bar:
        for length in lengths:
            batch = random_batch(1, length, context.vocabulary, config.seed)
            times = measure_in_turn({runner.label: runner.program(batch) for runner in runners}, LENGTH_ROUNDS)
            points += [
                LengthPoint(model=name, length=length, samples_ms=samples, median_ms=float(np.median(samples)))
                for name, samples in times.items()
            ]
            bar.advance()
    return points


def throughput_by_batch(context: BenchContext) -> list[BatchPoint]:
    """Time inputs of --length at each batch size of --grid, each runner alone, in each PyTorch precision.

    The larger batches of a runner are left out once a run would take longer than GRID_RUN_S, or memory runs out.
    """
    config = context.config
    runners = {runner.label: runner for runner in context.runners.all_runners(context.baseline, context.models)}
    for precision in config.precisions if config.precisions != ("fp32",) else ():
        for model in (context.baseline, *context.models):
            runner = context.runners.pytorch(model, precision)
            runners.setdefault(runner.label, runner)
    points: list[BatchPoint] = []
    with progress("throughput by batch size", len(runners)) as bar:
        for runner in runners.values():
            points += sweep_batches(runner, config.grid, config.length, context.vocabulary, config.seed)
            bar.advance()
    return points


def sweep_batches(runner: Runner, sizes: Iterable[int], length: int, vocabulary: int, seed: int) -> list[BatchPoint]:
    """Time a runner at rising batch sizes, up to one whose run would take longer than GRID_RUN_S or has no memory.

    Args:
        runner: runs alone.
        sizes: batch sizes.
        length: tokens of each input.
        vocabulary: number of ids to draw from.
        seed: of the inputs.
    """
    import torch

    points, per_input_ms = list[BatchPoint](), 0.0
    for size in sorted(set(sizes)):
        if per_input_ms * size > 1000 * GRID_RUN_S:
            break
        batch = random_batch(size, length, vocabulary, seed)
        try:
            samples = measure_in_turn({runner.label: runner.program(batch)}, GRID_ROUNDS)[runner.label]
        except torch.OutOfMemoryError:
            break
        per_input_ms = float(np.median(samples)) / size
        points.append(BatchPoint(
            model=runner.label, batch_size=size, length=length, samples_ms=samples, per_s=1000 / per_input_ms
        ))  # fmt: skip
    return points
