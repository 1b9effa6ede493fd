"""`toolkit demo`: every step on the embedded data set, by the code of the commands; finished steps are reused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from toolkit.benchmarking.server.process import serving
from toolkit.bundle.format import Bundle
from toolkit.bundle.provenance import as_stored, run_or_reuse
from toolkit.bundle.scores import split_of
from toolkit.config import BenchConfig, DemoConfig, DistillConfig, ExportConfig, FinetuneConfig
from toolkit.console import echo, show_table
from toolkit.data import builtin
from toolkit.errors import ToolkitError, require_packages
from toolkit.reports.table import percent

if TYPE_CHECKING:
    from toolkit.benchmarking.bench import BenchReport
    from toolkit.benchmarking.results import Report

TASK = "rotten-tomatoes"
QUESTIONS = ("a warm , funny and engaging film", "the plot is a mess and the jokes fall flat")
LATENCY_ROUNDS = 15
QUICK_ROWS = 1_024
UNLABELLED = 7_676  # about as many as there are labelled ones


@dataclass(frozen=True)
class Plan:
    """The configurations of the four steps. Each step reads what the step before it writes."""

    finetune: FinetuneConfig
    distill: DistillConfig
    export: ExportConfig
    bench: BenchConfig

    @classmethod
    def of(cls, config: DemoConfig) -> Plan:
        """Plan the full run, or with `quick` an eighth of the rows and few timings."""
        out = Path(config.out)
        teacher, student, int8 = (str(out / name) for name in ("teacher", "student", "int8"))
        rows = QUICK_ROWS if config.quick else None
        return cls(
            FinetuneConfig(
                str(builtin.minilm()), TASK, teacher, epochs=3 if config.quick else 2, max_rows=rows, seed=config.seed
            ),
            DistillConfig(
                teacher, TASK, student, unlabelled=str(out / "unlabelled.txt"),
                intermediate_epochs=2 if config.quick else 1, max_rows=rows, seed=config.seed,
            ),
            # after training on an eighth of the rows many scores are near 0.5; the full run keeps the default gate
            ExportConfig(student, int8, max_drop=3.0 if config.quick else ExportConfig.max_drop),
            BenchConfig(
                (int8,), out=str(out / "bench"), batch_sizes=(1,) if config.quick else BenchConfig.batch_sizes,
                max_pairs=8 if config.quick else BenchConfig.max_pairs, seed=config.seed,
                scenarios="" if config.quick else BenchConfig.scenarios,
            ),
        )  # fmt: skip


def run_demo(config: DemoConfig) -> None:
    """Fine-tune, distil, export, bench, then start the real server and ask it. Finished steps are reused.

    Raises:
        ToolkitError: an extra is missing, or a step cannot run.
        GateError: a gate is missed, or, after the last step, a claim.
    """
    config.check()
    require_packages(
        "torch", "transformers", "accelerate", "onnx", "onnxruntime", "matplotlib", "uvicorn", "fastapi",
        purpose="toolkit demo", extra="demo",
    )  # fmt: skip
    from export.onnx_export import export_fp32
    from export.pipeline import run_export
    from toolkit.benchmarking.bench import measure, require_claims
    from toolkit.distillation.distill import run_distill
    from toolkit.training.finetune import run_finetune

    start, plan = time.monotonic(), Plan.of(config)
    teacher = run_or_reuse("1/5 teacher", plan.finetune, run_finetune)
    write_unlabelled(plan, config.seed)
    student = run_or_reuse("2/5 student", plan.distill, run_distill, parent=teacher)
    int8 = run_or_reuse("3/5 int8", plan.export, run_export, parent=student)
    measure_bench = partial(measure, export=export_fp32)
    report = run_or_reuse("4/5 bench against BERT-base", plan.bench, measure_bench, parent=int8, read=_stored_report)
    echo("== 5/5 service")
    with serving(int8.path) as server:
        for text in QUESTIONS:
            echo(f"POST {server.url}/predict {text!r}\n  {json.dumps(server.predict(text))}")
    _summary(teacher, student, int8, report.content)
    echo(f"done in {(time.monotonic() - start) / 60:.1f} minutes. Next:")
    echo(f"  toolkit predict {int8.path} 'a gripping story'")
    echo(f"  toolkit serve {int8.path}     and open {report.out}/report.html")
    echo("  toolkit distill --teacher YOUR_MODEL --task auto --data YOUR_FOLDER --out DIR")
    require_claims(report)  # last, so that a claim not met hides nothing


def write_unlabelled(plan: Plan, seed: int) -> None:
    """Write IMDb sentences for the student, which learns the teacher's answers to them beside the labelled rows."""
    path = Path(str(plan.distill.unlabelled))
    if not path.exists():
        sentences = builtin.imdb_sentences(plan.distill.max_rows or UNLABELLED, seed)
        path.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")


def _stored_report(config: BenchConfig, int8: Bundle) -> BenchReport | None:
    """Read the report at `config.out` if it measured this bundle with these options."""
    from toolkit.benchmarking.bench import BenchReport
    from toolkit.benchmarking.report.read import read_report

    out = Path(str(config.out))
    try:
        report = read_report(out)
    except ToolkitError:
        return None
    same = report.options == as_stored(config) and int8.digest in [model.digest for model in report.models]
    return BenchReport(report, out) if same else None


def _summary(teacher: Bundle, student: Bundle, int8: Bundle, report: Report) -> None:
    """Show quality on the test split, size and speed of each bundle in one table; the speed of one real sentence."""
    from toolkit.benchmarking.report.tables import claim_table
    from toolkit.benchmarking.results import Kind
    from toolkit.inference.predictor import open_predictor
    from toolkit.measurement.timing import measure_in_turn

    bundles = {"teacher, PyTorch": teacher, "student, PyTorch": student, "student, int8 ONNX": int8}
    programs = {name: partial(open_predictor(bundle.path).predict, QUESTIONS[:1]) for name, bundle in bundles.items()}
    times = {name: median(times_ms) for name, times_ms in measure_in_turn(programs, LATENCY_ROUNDS).items()}
    base = report.baseline
    metric, first = teacher.task.metric, "teacher, PyTorch"
    rows = [
        (
            name, f"{100 * bundle.manifest['metrics'][metric]:.2f}",
            percent(bundle.manifest['metrics'][metric] / teacher.manifest['metrics'][metric]),
            f"{bundle.weight_bytes / 1e6:.1f}", f"{base.size_bytes / bundle.weight_bytes:.1f}x",
            f"{times[name]:.2f}", f"{times[first] / times[name]:.1f}x",
        )
        for name, bundle in bundles.items()
    ]  # fmt: skip
    columns = (
        f"{split_of(teacher.manifest)} {metric}",
        "of teacher",
        "MB",
        "smaller than BERT-base",
        "ms a sentence",
        "faster than teacher",
    )
    show_table(f"{TASK}, {len(QUESTIONS[0].split())}-word sentence", ("model", *columns), rows)
    claims = claim_table(report)
    show_table(claims.title, claims.columns, claims.rows)
    for comparison in report.comparisons:
        if comparison.kind == Kind.TOTAL:
            sides = f"{comparison.b.label} against {comparison.a.label}, batch {comparison.batch_size}"
            echo(f"total, {sides}: {comparison.ratio:.1f}x [{comparison.low:.1f}, {comparison.high:.1f}]")
