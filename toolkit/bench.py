"""`toolkit bench`: how much smaller and faster a model is than BERT-base, with the evidence.

Headline: what distillation gains. Baseline and student are built from their `config.json` by one exporter, as fp32
ONNX, and timed in turn in one runtime with the same threads. Then, apart: what ONNX gains over PyTorch, what int8
gains over fp32, and the total of the bundle as given against the baseline in PyTorch, as a user would start.
Weights are random where only speed and size are told of; accuracy comes from the bundles' manifests alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.architectures import torch_threads
from toolkit.bundle import file_entry, open_bundle
from toolkit.claims import missed_claims, size_claims, speed_claims
from toolkit.config import BenchConfig
from toolkit.console import Track, say, show_table, track
from toolkit.contenders import (
    Contender,
    Stable,
    Subject,
    bert_base,
    check_device,
    check_lengths,
    directory,
    from_bundle,
)
from toolkit.data import Split, load_split
from toolkit.errors import GateError, ToolkitError, require
from toolkit.findings import SCHEMA_VERSION, claim_rows, disturbance, model_rows, speed_rows
from toolkit.machine import Others, environment, physical_cores
from toolkit.report import check_report_target, write_report
from toolkit.text import Batch
from toolkit.timing import Pairs, measure_in_turn, measure_pairs

BUDGET_S, CLAIM_BUDGET_S = 10.0, 30.0  # of one comparison, without and with a claim
LENGTHS = (16, 32, 64, 128)
LENGTH_ROUNDS = 7
TASK_ROWS = 64


@dataclass(frozen=True)
class BenchReport:
    """What was measured. `content` is `report.json`; `out` holds report.json, report.md and report.html."""

    content: dict[str, Any]
    out: Path

    @property
    def passed(self) -> bool:
        """Whether every claim's verdict is PASS; INCONCLUSIVE is not."""
        return not missed_claims(self.content["claims"])


def run_bench(config: BenchConfig) -> BenchReport:
    """Measure, write the reports, then hold the claims against what was measured.

    Raises:
        GateError: a claim is missed or not shown; the reports are written before.
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
    """
    report = measure(config)
    hold_claims(report)
    return report


def hold_claims(report: BenchReport) -> None:
    """Raise a GateError that names every claim whose verdict is not PASS."""
    if missed := missed_claims(report.content["claims"]):
        raise GateError(
            f"{len(missed)} of {len(report.content['claims'])} claims are not met\n" + "\n".join(missed),
            expected="every claim PASS: its whole interval at or above the claim",
            fix=f"read {report.out / 'report.html'}; INCONCLUSIVE wants a quieter machine or a larger --max-pairs",
        )


def measure(config: BenchConfig) -> BenchReport:
    """Measure and write the reports, whatever the claims come to.

    Raises:
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
    """
    config.check()
    require("torch", "transformers", "onnx", "onnxruntime", "matplotlib", purpose="toolkit bench")
    check_device(config.device)
    first = Path(config.bundles[0]).resolve()
    out = Path(config.out) if config.out else first.with_name(f"{first.name}-bench")
    check_report_target(out)
    bundles = [open_bundle(path) for path in config.bundles]
    threads = config.threads or physical_cores()
    say(f"building {config.baseline} and the models under test anew as fp32 ONNX")
    with tempfile.TemporaryDirectory(prefix="toolkit-bench-") as scratch, torch_threads(threads):
        subjects = [from_bundle(bundle, Path(scratch)) for bundle in bundles]
        baseline = bert_base() if config.baseline == "bert-base" else directory(Path(config.baseline), Path(scratch))
        check_lengths(config.length, [baseline, *subjects])
        stable = Stable(threads, config.device)
        others = Others()
        models = [_model(subject, config.length, baseline) for subject in (baseline, *subjects)]
        comparisons = _comparisons(config, stable, baseline, subjects)
        by_length = _latency_by_length(config, stable, baseline, subjects)
        content = {
            "schema_version": SCHEMA_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": config.to_json(),
            "threads": threads,
            "environment": environment() | {"others_share": others.share()},
            "models": models,
            "comparisons": comparisons,
            "latency_by_length": by_length,
            "claims": [*size_claims(models, config.size_claim), *speed_claims(comparisons)],
        }
    write_report(content, out)
    _show(content, out)
    return BenchReport(content, out)


def _comparisons(
    config: BenchConfig, stable: Stable, baseline: Subject, subjects: Sequence[Subject]
) -> list[dict[str, Any]]:
    """Every pair of contenders at every batch size; models of one architecture share what depends on it alone."""
    found: list[dict[str, Any]] = []
    plan = [(*pair, size) for pair in _plan(stable, baseline, subjects) for size in config.batch_sizes]
    splits = [(subject, split) for subject in subjects if (split := _task_split(subject, config.data))]
    total = (len(plan) + len(splits)) * config.max_pairs
    with track("bench", total) as bar:
        for kind, a, b, size in plan:
            batch = _batch(size, config.length, min(a.subject.vocabulary, b.subject.vocabulary), config.seed)
            claim = config.speed_claim if kind == "distillation" else None
            with _counted(bar, config.max_pairs, f"{kind} batch {size}") as on_pair:
                pairs = measure_pairs(
                    a.program(batch), b.program(batch), max_pairs=config.max_pairs, claim=claim,
                    budget_s=CLAIM_BUDGET_S if claim else BUDGET_S, on_pair=on_pair,
                )  # fmt: skip
            found.append(_comparison(kind, a, b, pairs, batch_size=size, length=config.length, claim=claim))
        for subject, split in splits:
            with _counted(bar, config.max_pairs, "task lengths") as on_pair:
                found.append(_task_lengths(config, stable, baseline, subject, split, on_pair))
    return found


def _plan(stable: Stable, baseline: Subject, subjects: Sequence[Subject]) -> Iterator[tuple[str, Contender, Contender]]:
    """What is timed against what: the kind of gain, A and B."""
    seen: set[str] = set()
    for subject in subjects:
        if subject.key not in seen:
            yield "control", stable.onnx(subject), stable.onnx(subject, copy=True)
            yield "distillation", stable.onnx(baseline), stable.onnx(subject)
            yield "onnx", stable.pytorch(subject), stable.onnx(subject)
            seen.add(subject.key)
        given = stable.given(subject)
        if given.runtime_name == "onnxruntime" and given.precision != "fp32":
            yield given.precision, stable.onnx(subject), given
        yield "total", stable.pytorch(baseline), given


def _task_lengths(
    config: BenchConfig, stable: Stable, baseline: Subject, subject: Subject, split: Split, on_pair: Any
) -> dict[str, Any]:
    """One request at a time at the task's own lengths, tokenization on the clock; both sides get the same text."""
    b = stable.given(subject)
    a = stable.onnx(baseline) if b.runtime_name == "onnxruntime" else stable.pytorch(baseline)
    most = min(subject.bundle.max_length if subject.bundle else config.length, baseline.max_tokens, subject.max_tokens)
    sample = split.head(min(TASK_ROWS, config.max_pairs), config.seed)
    row = 0

    def following() -> None:
        nonlocal row
        row = (row + 1) % len(sample)
        on_pair()

    def texts() -> tuple[str, str | None]:
        return sample.texts[row], None if sample.pairs is None else sample.pairs[row]

    encoder = subject.encoder(most)
    first = baseline.encoder(most) if baseline.path else encoder
    pairs = measure_pairs(
        lambda: a.answer(first, *texts()), lambda: b.answer(encoder, *texts()),
        max_pairs=config.max_pairs, budget_s=BUDGET_S, on_pair=following,
    )  # fmt: skip
    lengths = encoder.encode(sample.texts, sample.pairs).lengths
    about = {"rows": len(sample), "source": sample.source, "median_tokens": float(np.median(lengths))}
    return _comparison("task lengths", a, b, pairs, batch_size=1, length=None, claim=None) | about


def _comparison(
    kind: str, a: Contender, b: Contender, pairs: Pairs, *, batch_size: int, length: int | None, claim: float | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "batch_size": batch_size,
        "length": length,
        "a": a.to_json(),
        "b": b.to_json(),
        "claim": claim,
        **pairs.to_json(),
    }


def _latency_by_length(
    config: BenchConfig, stable: Stable, baseline: Subject, subjects: Sequence[Subject]
) -> list[dict[str, Any]]:
    contenders = {one.label: one for one in (stable.onnx(baseline), *map(stable.onnx, subjects))}
    contenders |= {one.label: one for one in map(stable.given, subjects)}
    lengths = sorted({length for length in LENGTHS if length < config.length} | {config.length})
    vocabulary = min(one.subject.vocabulary for one in contenders.values())
    found = []
    with track("latency by length", len(lengths)) as bar:
        for length in lengths:
            batch = _batch(1, length, vocabulary, config.seed)
            times = measure_in_turn({name: one.program(batch) for name, one in contenders.items()}, LENGTH_ROUNDS)
            found += [
                {"model": name, "length": length, "samples_ms": taken, "median_ms": float(np.median(taken))}
                for name, taken in times.items()
            ]
            bar.advance()
    return found


def _model(subject: Subject, length: int, baseline: Subject) -> dict[str, Any]:
    """Size, FLOPs, accuracy and files of one model."""
    bundle, shape = subject.bundle, subject.shape
    given = bundle.weight_bytes if bundle else subject.onnx_bytes
    projection = shape.projection_parameters(baseline.hidden) if shape and subject is not baseline else None
    return {
        "name": subject.name,
        "architecture": subject.architecture,
        "dimensions": subject.dimensions,
        "note": subject.note,
        "baseline": subject is baseline,
        "precision": bundle.precision if bundle else "fp32",
        "parameters": subject.parameters,
        "parameters_with_projection": None if projection is None else subject.parameters + projection,
        "flops": shape.flops(length) if shape else None,
        "flops_length": length,
        "fp32_onnx_bytes": subject.onnx_bytes,
        "fp32_onnx_sha256": file_entry(subject.onnx)["sha256"],
        "size_bytes": given,
        "metric": bundle.task.metric if bundle else None,
        "score": subject.score,
        "teacher_score": subject.teacher_score,
        "digest": bundle.digest if bundle else None,
        "files": bundle.manifest["files"] if bundle else {},
    }


def _task_split(subject: Subject, data: str | None) -> Split | None:
    """The task's dev texts: from --data or the embedded default; never from the network."""
    bundle = subject.bundle
    if bundle is None or (data is None and bundle.task.name != "rotten-tomatoes"):
        return None
    try:
        return load_split(bundle.task, "dev", data)
    except ToolkitError:
        if data is not None:
            raise
        return None  # the embedded data are an extra


def _batch(size: int, length: int, vocabulary: int, seed: int) -> Batch:
    """Full-length inputs [B, L] of random ids from the upper half of the vocabulary, where no special token is."""
    ids = np.random.default_rng(seed).integers(vocabulary // 2, vocabulary, (size, length), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@contextmanager
def _counted(bar: Track, total: int, name: str) -> Iterator[Any]:
    """Advance a bar pair by pair, and past the pairs that an early decision saved."""
    done = 0

    def on_pair() -> None:
        nonlocal done
        done += 1
        bar.advance(comparison=name)

    yield on_pair
    if done < total:
        bar.advance(total - done)


def _show(content: dict[str, Any], out: Path) -> None:
    for title, (columns, rows) in (
        ("Models", model_rows(content)),
        ("Speed", speed_rows(content)),
        ("Claims", claim_rows(content)),
    ):
        show_table(title, columns, rows)
    if warning := disturbance(content):
        say(warning)
    say(f"reports: {out / 'report.html'}, report.md, report.json")
