"""Comparisons that `bench` times: each gain apart, in pairs within one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.benchmarking.models import BenchModel
from toolkit.benchmarking.other_runtimes import CompiledTorchRuntime, CTranslate2Runtime, OpenVinoRuntime, check_peer
from toolkit.benchmarking.random_models import build
from toolkit.benchmarking.results import Comparison, Kind
from toolkit.benchmarking.runners import Runner, RunnerCache
from toolkit.config import BenchConfig
from toolkit.console import Progress, echo, progress
from toolkit.data.datasets import Split
from toolkit.data.tokenization import Batch, TextEncoder
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import Runtime
from toolkit.measurement.timing import Pairs, Program, measure_pairs

BUDGET_S, CLAIM_BUDGET_S = 8.0, 30.0  # of one comparison, without and with a claim
PEER_PAUSE_S = 0.3  # OpenMP's idle threads spin for 0.2 s and would slow the other side
BATCHED_TEXTS = 64


@dataclass(frozen=True)
class BenchContext:
    """The options, models and runners that all measurements of a run share.

    Attributes:
        config: resolved for the device.
        runners: loads each runner once.
        baseline, models: the models.
        splits: the task's texts by the model's name, where there are any.
    """

    config: BenchConfig
    runners: RunnerCache
    baseline: BenchModel
    models: Sequence[BenchModel]
    splits: dict[str, Split]

    @property
    def vocabulary(self) -> int:
        """Number of ids that every model has a row for."""
        return min(model.vocabulary for model in (self.baseline, *self.models))

    def encoders(self, model: BenchModel) -> tuple[TextEncoder, TextEncoder]:
        """Open the tokenizers of the baseline and of a model: both get the same text, cut at the same length."""
        length = model.bundle.max_length if model.bundle else self.config.length
        most = min(length, self.baseline.max_tokens, model.max_tokens)
        encoder = model.encoder(most)
        return (self.baseline.encoder(most) if self.baseline.path else encoder), encoder


@dataclass(frozen=True)
class PlannedComparison:
    """A and B, to be timed at a fixed batch size and length."""

    kind: Kind
    a: Runner
    b: Runner
    claim: float | None = None
    pause_s: float = 0.0

    def result(self, pairs: Pairs, batch_size: int, length: int | None) -> Comparison:
        """Combine the plan with its times."""
        return Comparison(
            kind=self.kind, batch_size=batch_size, length=length, claim=self.claim, a=self.a.side(), b=self.b.side(),
            **pairs.to_dict(),
        )  # fmt: skip


def measure_comparisons(context: BenchContext, peers: Sequence[PlannedComparison] = ()) -> list[Comparison]:
    """Time every planned comparison at every batch size, then those over the task's own texts."""
    config, comparisons = context.config, list[Comparison]()
    plan = [(planned, size) for planned in (*_plan(context), *peers) for size in config.batch_sizes]
    with progress("bench", (len(plan) + 2 * len(context.splits)) * config.max_pairs) as bar:
        for planned, size in plan:
            batch = random_batch(size, config.length, context.vocabulary, config.seed)
            with _count_pairs(bar, config.max_pairs, f"{planned.kind} batch {size}") as on_pair:
                pairs = measure_pairs(
                    planned.a.program(batch), planned.b.program(batch), max_pairs=config.max_pairs,
                    claim=planned.claim, budget_s=CLAIM_BUDGET_S if planned.claim else BUDGET_S,
                    pause_s=planned.pause_s, on_pair=on_pair,
                )  # fmt: skip
            comparisons.append(planned.result(pairs, size, config.length))
        for model in context.models:
            if model.name in context.splits:
                comparisons += [_compare_task_lengths(context, model, bar), _compare_batching(context, model, bar)]
    return comparisons


def random_batch(size: int, length: int, vocabulary: int, seed: int) -> Batch:
    """Draw full-length inputs [B, L] of ids from the upper half of the vocabulary, where no special token is."""
    ids = np.random.default_rng(seed).integers(vocabulary // 2, vocabulary, (size, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _plan(context: BenchContext) -> Iterator[PlannedComparison]:
    """Plan the comparisons; models of one architecture share those that depend on it alone."""
    runners, baseline, planned = context.runners, context.baseline, set[str]()
    reduced = [precision for precision in context.config.precisions if precision != "fp32"]
    for model in context.models:
        if model.key not in planned:
            planned.add(model.key)
            yield PlannedComparison(Kind.CONTROL, runners.claim_runner(model), runners.claim_runner(model, copy=True))
            yield claimed_comparison(context, model)
            if runners.has_onnx:
                yield PlannedComparison(Kind.DISTILLATION_PYTORCH, runners.pytorch(baseline), runners.pytorch(model))
                yield PlannedComparison(Kind.ONNX, runners.pytorch(model), runners.onnx(model))
            for precision in reduced:
                faster = runners.pytorch(model, precision)
                yield PlannedComparison(Kind(precision), runners.pytorch(model), faster)
                yield PlannedComparison(Kind.TOTAL, runners.pytorch(baseline), faster)
        bundle = runners.bundle_runner(model)
        if bundle and bundle.runtime_name == "onnxruntime" and bundle.precision != "fp32":
            yield PlannedComparison(Kind(bundle.precision), runners.onnx(model), bundle)
        if bundle:
            yield PlannedComparison(Kind.TOTAL, runners.pytorch(baseline), bundle)


def claimed_comparison(context: BenchContext, model: BenchModel) -> PlannedComparison:
    """Plan the comparison of the speed claim: both sides in one runtime, fp32."""
    a, b = context.runners.claim_runner(context.baseline), context.runners.claim_runner(model)
    return PlannedComparison(Kind.DISTILLATION, a, b, context.config.speed_claim)


def peer_comparisons(context: BenchContext, scratch: Path) -> list[PlannedComparison]:
    """Plan other runtimes (A) against ours of the same precision (B): same architecture, same weights.

    Each peer is first held against our fp32 ONNX.

    Raises:
        ToolkitError: a peer is not installed, cannot take the model, or computes another one.
    """
    runners, planned = context.runners, list[PlannedComparison]()
    for model in {model.key: model for model in context.models}.values():
        reference, bundle = runners.onnx(model), runners.bundle_runner(model)
        ours = {"fp32": reference, "int8": bundle if bundle and bundle.precision == "int8" else reference}
        batches = [random_batch(2, 16, context.vocabulary, seed) for seed in range(8)]
        for name, precision, runtime in _peers(context, model, scratch, batches):
            check_peer(name, runtime, reference.runtime, batches, precision)
            peer = Runner(model, model.architecture, runtime, name, precision, None)
            planned.append(PlannedComparison(Kind.PEER, peer, ours[precision], pause_s=PEER_PAUSE_S))
    return planned


def _peers(
    context: BenchContext, model: BenchModel, scratch: Path, batches: Sequence[Batch]
) -> Iterator[tuple[str, str, Runtime]]:
    """Name, precision and runtime of each peer that runs on the device."""
    threads, device = context.runners.threads, context.runners.device
    try:
        yield "torch.compile", "fp32", CompiledTorchRuntime(build(model.config), device)
    except ToolkitError as error:  # it wants a C++ compiler, which no package of ours brings
        echo(f"torch.compile is left out: {error}")
    if device != "cpu":
        return
    assert model.path is not None
    source = scratch / f"peer-{model.key[:16]}"
    build(model.config).save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (model.path / name).is_file():
            shutil.copy(model.path / name, source)
    for precision in ("fp32", "int8"):
        yield "CTranslate2", precision, CTranslate2Runtime(source, precision=precision, threads=threads)
        yield (
            "OpenVINO", precision,
            OpenVinoRuntime(model.onnx, precision=precision, threads=threads, calibration=batches),
        )  # fmt: skip


def _compare_task_lengths(context: BenchContext, model: BenchModel, bar: Progress) -> Comparison:
    """Time a request at a time at the task's own lengths, tokenization included; both sides get the same text."""
    runners, config, split = context.runners, context.config, context.splits[model.name]
    b = runners.bundle_runner(model) or runners.claim_runner(model)
    a = runners.onnx(context.baseline) if b.runtime_name == "onnxruntime" else runners.pytorch(context.baseline)
    baseline_encoder, encoder = context.encoders(model)
    row = 0

    def text() -> tuple[str, str | None]:
        return split.texts[row], None if split.pairs is None else split.pairs[row]

    with _count_pairs(bar, config.max_pairs, "task lengths") as on_pair:

        def next_row() -> None:
            nonlocal row
            row = (row + 1) % len(split)
            on_pair()

        pairs = measure_pairs(
            lambda: a.answer(baseline_encoder, *text()), lambda: b.answer(encoder, *text()),
            max_pairs=config.max_pairs, budget_s=BUDGET_S, on_pair=next_row,
        )  # fmt: skip
    return _with_texts(PlannedComparison(Kind.TASK_LENGTHS, a, b).result(pairs, 1, None), split, encoder)


def _compare_batching(context: BenchContext, model: BenchModel, bar: Progress) -> Comparison:
    """Time the task's texts in batches: A pads all to the longest allowed, B batches like lengths, padded to each."""
    config, split = context.config, context.splits[model.name]
    runner = context.runners.bundle_runner(model) or context.runners.claim_runner(model)
    _, encoder = context.encoders(model)
    sample = split.subsample(BATCHED_TEXTS, config.seed)

    def run(length: int | None) -> Program:
        return lambda: runner.answer_all(encoder, sample.texts, sample.pairs, length)

    with _count_pairs(bar, config.max_pairs, "batching") as on_pair:
        pairs = measure_pairs(
            run(encoder.max_length), run(None), max_pairs=config.max_pairs, budget_s=BUDGET_S, on_pair=on_pair
        )
    comparison = PlannedComparison(Kind.BATCHING, runner, runner).result(pairs, len(sample), None)
    a = replace(comparison.a, label=f"{runner.label}, padded to {encoder.max_length}")
    b = replace(comparison.b, label=f"{runner.label}, by length")
    return _with_texts(replace(comparison, a=a, b=b), sample, encoder)


def _with_texts(comparison: Comparison, split: Split, encoder: TextEncoder) -> Comparison:
    """Add the texts that were timed to a comparison."""
    lengths = encoder.encode(split.texts, split.pairs).lengths
    return replace(comparison, rows=len(split), source=split.source, median_tokens=float(np.median(lengths)))


@contextmanager
def _count_pairs(bar: Progress, total: int, name: str) -> Iterator[Any]:
    """Advance a bar pair by pair, and past the pairs that an early decision saved."""
    done = 0

    def on_pair() -> None:
        nonlocal done
        done += 1
        bar.advance(comparison=name)

    yield on_pair
    if done < total:
        bar.advance(total - done)
