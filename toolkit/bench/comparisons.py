"""What `bench` times against what: each gain apart, in pairs within one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bench.models import BenchModel
from toolkit.bench.other_runtimes import CompiledTorchRuntime, CTranslate2Runtime, OpenVinoRuntime, check_peer
from toolkit.bench.random_models import build
from toolkit.bench.runners import Runner, RunnerCache
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
    """What every measurement of a run shares.

    Attributes:
        config: resolved for the device.
        stable: where contenders are kept.
        baseline, subjects: the models.
        splits: the task's texts by the subject's name, where there are any.
    """

    config: BenchConfig
    stable: RunnerCache
    baseline: BenchModel
    subjects: Sequence[BenchModel]
    splits: dict[str, Split]

    @property
    def vocabulary(self) -> int:
        """Ids that every model has a row for."""
        return min(one.vocabulary for one in (self.baseline, *self.subjects))

    def encoders(self, subject: BenchModel) -> tuple[TextEncoder, TextEncoder]:
        """Tokenizers of the baseline and of a subject: both sides get the same text, cut at the same length."""
        own = subject.bundle.max_length if subject.bundle else self.config.length
        most = min(own, self.baseline.max_tokens, subject.max_tokens)
        encoder = subject.encoder(most)
        return (self.baseline.encoder(most) if self.baseline.path else encoder), encoder


@dataclass(frozen=True)
class Comparison:
    """A and B, to be timed at a fixed batch size and length."""

    kind: str
    a: Runner
    b: Runner
    claim: float | None = None
    pause_s: float = 0.0


def comparisons(setting: BenchContext, peers: Sequence[Comparison] = ()) -> list[dict[str, Any]]:
    """Every match at every batch size, then the matches over the task's own texts."""
    config, found = setting.config, []
    plan = [(match, size) for match in (*_plan(setting), *peers) for size in config.batch_sizes]
    with progress("bench", (len(plan) + 2 * len(setting.splits)) * config.max_pairs) as bar:
        for match, size in plan:
            batch = random_batch(size, config.length, setting.vocabulary, config.seed)
            with _counted(bar, config.max_pairs, f"{match.kind} batch {size}") as on_pair:
                pairs = measure_pairs(
                    match.a.program(batch), match.b.program(batch), max_pairs=config.max_pairs, claim=match.claim,
                    budget_s=CLAIM_BUDGET_S if match.claim else BUDGET_S, pause_s=match.pause_s, on_pair=on_pair,
                )  # fmt: skip
            found.append(comparison_record(match, pairs, size, config.length))
        for subject in setting.subjects:
            if subject.name in setting.splits:
                found += [_task_lengths(setting, subject, bar), _batching(setting, subject, bar)]
    return found


def comparison_record(match: Comparison, pairs: Pairs, batch_size: int, length: int | None) -> dict[str, Any]:
    """One comparison as `report.json` has it."""
    about = {"kind": match.kind, "batch_size": batch_size, "length": length, "claim": match.claim}
    return {**about, "a": match.a.to_dict(), "b": match.b.to_dict(), **pairs.to_dict()}


def random_batch(size: int, length: int, vocabulary: int, seed: int) -> Batch:
    """Full-length inputs [B, L] of random ids from the upper half of the vocabulary, where no special token is."""
    ids = np.random.default_rng(seed).integers(vocabulary // 2, vocabulary, (size, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _plan(setting: BenchContext) -> Iterator[Comparison]:
    """Models of one architecture share what depends on it alone."""
    stable, baseline, seen = setting.stable, setting.baseline, set[str]()
    reduced = [one for one in setting.config.precisions if one != "fp32"]
    for subject in setting.subjects:
        if subject.key not in seen:
            seen.add(subject.key)
            yield Comparison("control", stable.headline(subject), stable.headline(subject, copy=True))
            yield claim_runner(setting, subject)
            if stable.has_onnx:
                yield Comparison("distillation, PyTorch", stable.pytorch(baseline), stable.pytorch(subject))
                yield Comparison("onnx", stable.pytorch(subject), stable.onnx(subject))
            for precision in reduced:
                yield Comparison(precision, stable.pytorch(subject), stable.pytorch(subject, precision))
                yield Comparison("total", stable.pytorch(baseline), stable.pytorch(subject, precision))
        given = stable.given(subject)
        if given and given.runtime_name == "onnxruntime" and given.precision != "fp32":
            yield Comparison(given.precision, stable.onnx(subject), given)
        if given:
            yield Comparison("total", stable.pytorch(baseline), given)


def claim_runner(setting: BenchContext, subject: BenchModel) -> Comparison:
    """The comparison that the speed claim is about: both sides in one runtime, fp32."""
    stable = setting.stable
    claim = setting.config.speed_claim
    return Comparison("distillation", stable.headline(setting.baseline), stable.headline(subject), claim)


def peer_matches(setting: BenchContext, scratch: Path) -> list[Comparison]:
    """Other runtimes (A) against ours of the same precision (B), on the same architecture with the same weights.

    Each is first held against our fp32 ONNX.

    Raises:
        ToolkitError: a peer is not installed, cannot take the model, or computes another one.
    """
    stable, found = setting.stable, list[Comparison]()
    for subject in {one.key: one for one in setting.subjects}.values():
        reference = stable.onnx(subject)
        given = stable.given(subject)
        ours = {"fp32": reference, "int8": given if given and given.precision == "int8" else reference}
        batches = [random_batch(2, 16, setting.vocabulary, seed) for seed in range(8)]
        for name, precision, runtime in _peers(setting, subject, scratch, batches):
            check_peer(name, runtime, reference.runtime, batches, precision)
            peer = Runner(subject, subject.architecture, runtime, name, precision, None)
            found.append(Comparison("peer", peer, ours[precision], pause_s=PEER_PAUSE_S))
    return found


def _peers(
    setting: BenchContext, subject: BenchModel, scratch: Path, batches: Sequence[Batch]
) -> Iterator[tuple[str, str, Runtime]]:
    """Name, precision and runtime of each peer that runs on the device."""
    threads, device = setting.stable.threads, setting.stable.device
    try:
        yield "torch.compile", "fp32", CompiledTorchRuntime(build(subject.config), device)
    except ToolkitError as error:  # it wants a C++ compiler, which no package of ours brings
        echo(f"torch.compile is left out: {error}")
    if device != "cpu":
        return
    assert subject.path is not None
    source = scratch / f"peer-{subject.key[:16]}"
    build(subject.config).save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (subject.path / name).is_file():
            shutil.copy(subject.path / name, source)
    for precision in ("fp32", "int8"):
        yield "CTranslate2", precision, CTranslate2Runtime(source, precision=precision, threads=threads)
        yield (
            "OpenVINO", precision,
            OpenVinoRuntime(subject.onnx, precision=precision, threads=threads, calibration=batches),
        )  # fmt: skip


def _task_lengths(setting: BenchContext, subject: BenchModel, bar: Progress) -> dict[str, Any]:
    """One request at a time at the task's own lengths, tokenization on the clock; both sides get the same text."""
    stable, config, split = setting.stable, setting.config, setting.splits[subject.name]
    b = stable.given(subject) or stable.headline(subject)
    a = stable.onnx(setting.baseline) if b.runtime_name == "onnxruntime" else stable.pytorch(setting.baseline)
    first, encoder = setting.encoders(subject)
    chosen = 0

    def text() -> tuple[str, str | None]:
        return split.texts[chosen], None if split.pairs is None else split.pairs[chosen]

    with _counted(bar, config.max_pairs, "task lengths") as on_pair:

        def following() -> None:
            nonlocal chosen
            chosen = (chosen + 1) % len(split)
            on_pair()

        pairs = measure_pairs(
            lambda: a.answer(first, *text()), lambda: b.answer(encoder, *text()),
            max_pairs=config.max_pairs, budget_s=BUDGET_S, on_pair=following,
        )  # fmt: skip
    return comparison_record(Comparison("task lengths", a, b), pairs, 1, None) | _about(split, encoder)


def _batching(setting: BenchContext, subject: BenchModel, bar: Progress) -> dict[str, Any]:
    """The task's texts in batches: A pads all to the longest allowed, B batches like lengths and pads to the batch."""
    config, split = setting.config, setting.splits[subject.name]
    one = setting.stable.given(subject) or setting.stable.headline(subject)
    _, encoder = setting.encoders(subject)
    sample = split.subsample(BATCHED_TEXTS, config.seed)

    def run(length: int | None) -> Program:
        return lambda: one.answer_all(encoder, sample.texts, sample.pairs, length)

    with _counted(bar, config.max_pairs, "batching") as on_pair:
        pairs = measure_pairs(
            run(encoder.max_length), run(None), max_pairs=config.max_pairs, budget_s=BUDGET_S, on_pair=on_pair
        )
    found = comparison_record(Comparison("batching", one, one), pairs, len(sample), None) | _about(sample, encoder)
    for side, how in (("a", f"padded to {encoder.max_length}"), ("b", "by length")):
        found[side] = found[side] | {"label": f"{one.label}, {how}"}
    return found


def _about(split: Split, encoder: TextEncoder) -> dict[str, Any]:
    lengths = encoder.encode(split.texts, split.pairs).lengths
    return {"rows": len(split), "source": split.source, "median_tokens": float(np.median(lengths))}


@contextmanager
def _counted(bar: Progress, total: int, name: str) -> Iterator[Any]:
    """Advance a bar pair by pair, and past the pairs that an early decision saved."""
    done = 0

    def on_pair() -> None:
        nonlocal done
        done += 1
        bar.advance(comparison=name)

    yield on_pair
    if done < total:
        bar.advance(total - done)
