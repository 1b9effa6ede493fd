"""The toolkit in Python: `from toolkit import finetune, distill, export, load`.

Each command of the command line is a function here, and the command only calls it. The arguments are the command's
options, with their names, defaults and checks: `--batch-size 16` is `batch_size=16`. A function says nothing unless a
caller is `listening`, returns what it made, and raises `ToolkitError` with the words that the command line prints. The
directory that one writes is the source of the next.
"""

from __future__ import annotations

import threading
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, overload

from toolkit import config
from toolkit.bundle.format import Bundle
from toolkit.config.arguments import takes
from toolkit.console import Event, Listener, listening
from toolkit.errors import GateError, ToolkitError, require_packages
from toolkit.inference.predictor import LabelScore, Predictor, open_predictor

if TYPE_CHECKING:
    from toolkit.benchmarking.bench import BenchReport
    from toolkit.benchmarking.report.cascade import CascadeReport
    from toolkit.distillation.seeds import SeedSummary
    from toolkit.inference.evaluate import Evaluation
    from toolkit.scoring.cascade import Cascade

__all__ = [
    "Bundle", "Event", "GateError", "LabelScore", "Listener", "Predictor", "ToolkitError", "augment", "bench",
    "calibrate", "cascade", "compress", "distill", "distill_seeds", "evaluate", "export", "finetune", "listening",
    "load", "score", "serve",
]  # fmt: skip


@takes(config.FinetuneConfig)
def finetune(options: config.FinetuneConfig) -> Bundle:
    """Fine-tune a Hugging Face encoder on a task, as a teacher.

    Returns:
        The teacher, a bundle at `out`; its `metrics` are fractions, of the rows of `split`.

    Raises:
        ToolkitError: options, data or a model that cannot be used, or a loss that is not finite.
    """
    _require_training("finetune")
    from toolkit.training.finetune import run_finetune

    return run_finetune(options)


@takes(config.DistillConfig)
def distill(options: config.DistillConfig) -> Bundle:
    """Distil a teacher into a small student, layer by layer and then by its answers (arXiv 1909.10351).

    Stage a minimises the mean squared errors of attention scores, hidden states and embeddings of the mapped layers
    (equations 7 to 9), stage b the soft cross-entropy of the logits [B, C] at a temperature (equation 10).

    Returns:
        The student, a bundle at `out` with a report.html; its `metrics` are fractions, of the rows of `split`.

    Raises:
        ToolkitError: options, data or models that cannot be used, a weak teacher, or a loss that is not finite.
    """
    _require_training("distill", "jinja2", "matplotlib")
    if options.seeds is not None and not options.general:
        raise ToolkitError(f"seeds={options.seeds!r}: distill makes one student", fix="distill_seeds")
    if options.general:
        from toolkit.distillation.general import run_general as run
    else:
        from toolkit.distillation.distill import run_distill as run
    return run(options)


@takes(config.DistillConfig)
def distill_seeds(options: config.DistillConfig) -> SeedSummary:
    """Distil a student for each of `seeds`, such as "1,2,3", into `out`/seed-1 and so on; those that exist are reused.

    Returns:
        The metrics of teacher, start and student of each seed in percent, and their mean and sample deviation.

    Raises:
        ToolkitError: no seeds, as `distill`, or seeds that learnt from different data.
    """
    _require_training("distill_seeds", "jinja2", "matplotlib")
    if options.seeds is None:
        raise ToolkitError("no seeds", expected='seeds="1,2,3"', fix="distill, for one student")
    from toolkit.distillation.seeds import run_seeds

    return run_seeds(options)


@takes(config.AugmentConfig)
def augment(options: config.AugmentConfig) -> Path:
    """Make more training rows by exchanging words for those of a masked language model and of GloVe.

    Returns:
        The Parquet file at `out`, for `distill(augment=...)`.

    Raises:
        ToolkitError: options, data, vectors or a model that cannot be used; nothing is written.
    """
    from toolkit.augmentation.augment import run_augment

    return run_augment(options)


@takes(config.EvaluateConfig)
def evaluate(options: config.EvaluateConfig) -> Evaluation:
    """Score a bundle on labelled rows.

    Returns:
        The name of the split, and the metrics of its rows by name as fractions.

    Raises:
        ToolkitError: a damaged bundle, a task with other labels, or data that cannot be used.
    """
    from toolkit.inference.evaluate import run_evaluate

    return run_evaluate(options)


@takes(config.ExportConfig)
def export(options: config.ExportConfig) -> Bundle:
    """Turn a PyTorch bundle into ONNX, int8 by default, and verify that it gives the same answers on dev rows.

    Returns:
        The exported bundle at `out`.

    Raises:
        ToolkitError: a source that cannot be exported, or data that do not fit its task.
        GateError: the graph gives other answers than PyTorch, or loses more than `max_drop` points; nothing is written.
    """
    require_packages("torch", "transformers", "onnx", "onnxruntime", purpose="export")
    from export.pipeline import run_export

    return run_export(options)


@takes(config.CalibrateConfig)
def calibrate(options: config.CalibrateConfig) -> Bundle:
    """Calibrate a bundle's scores by labelled rows: of answers with a score of 0.9, nine in ten are right.

    Scores become softmax(z / T), for multi-label sigmoid(z_c / T_c), with the temperatures that minimise the log loss.
    Labels do not change.

    Returns:
        The same bundle with its new calibration, and thresholds where they are asked for.

    Raises:
        ToolkitError: a damaged bundle, or rows that are too few, seen in training or not labelled.
        GateError: no threshold keeps a promise; the bundle stays as it was.
    """
    from toolkit.inference.calibrate import run_calibrate

    return run_calibrate(options)


@takes(config.BenchConfig)
def bench(options: config.BenchConfig) -> BenchReport:
    """Measure size (bytes), FLOPs and latency (ms) of bundles against BERT-base or a model of one's own.

    Returns:
        The report, and its folder with report.html; claims that are not met are in it. With `compare` the second
        report.

    Raises:
        ToolkitError: a bundle, the baseline or the device cannot be used; nothing is written.
        GateError: with `compare`, something got slower beyond noise.
    """
    require_packages("torch", "transformers", "onnx", "onnxruntime", "matplotlib", purpose="bench", extra="bench")
    from export.onnx_export import export_fp32
    from toolkit.benchmarking.bench import compare, measure

    if options.compare:
        options.check()
        return compare(*map(Path, options.bundles))
    return measure(options, export_fp32)


@takes(config.CascadeConfig)
def cascade(options: config.CascadeConfig) -> CascadeReport:
    """Weigh a student with a teacher behind it: accuracy against mean cost (ms of one CPU a text) over all thresholds.

    Returns:
        The report, which `out` holds too: both models alone, every threshold, and those that hold a promise.

    Raises:
        ToolkitError: a bundle or data that cannot be used, or models of other labels; nothing is written.
    """
    from toolkit.benchmarking.cascade import measure_cascade

    return measure_cascade(options)


@takes(config.CompressConfig)
def compress(options: config.CompressConfig) -> Bundle | None:
    """Find the best student of a teacher within a budget of milliseconds, megabytes and points, and export it.

    Called again after it was killed, it goes on where it was.

    Returns:
        The int8 bundle at `out`/int8, with `out`/frontier.html beside it; with
        `dry_run` or `list` None, and nothing is written.

    Raises:
        ToolkitError: options, data or a teacher that cannot be used.
        GateError: nothing is within the budget; names the nearest student and what would have to give.
    """
    _require_training("compress", "jinja2", "matplotlib", "onnx", "onnxruntime", "optuna")
    from toolkit.compression.compress import run_compress

    return run_compress(options)


@takes(config.ScoreConfig)
def score(options: config.ScoreConfig) -> Path:
    """Classify files of texts of any size on all CPUs. Called again after it was killed, it goes on where it was.

    Returns:
        The file at `out`: the input's rows and columns, with label, score, and a probability for each label. With
        `fallback` also who answered each.

    Raises:
        ToolkitError: options, files, rows or a model that cannot be used, or scores that are not finite.
    """
    require_packages("pyarrow", purpose="score")
    from toolkit.scoring.score import run_score

    return run_score(options)


@takes(config.ServeConfig)
def serve(options: config.ServeConfig) -> None:
    """Serve exported bundles over HTTP until SIGTERM or Ctrl-C, in the main thread. Log lines go to stderr.

    Raises:
        ToolkitError: a bundle, a limit, a key, or an address or port that cannot be used, or another thread; nothing
            listens.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ToolkitError(
            "serve() in a thread", expected="the main thread, to which signals come that stop it",
            fix=f"a process of its own: toolkit serve {' '.join(options.bundles)}",
        )  # fmt: skip
    require_packages("onnxruntime", "fastapi", "uvicorn", "prometheus_client", purpose="serve")
    from serve.__main__ import run

    run(options)


@overload
def load(bundle: str | PathLike[str], *, threads: int = 0, device: str = "cpu") -> Predictor: ...
@overload
def load(
    bundle: str | PathLike[str], *, fallback: str | PathLike[str], threshold: float = 0.0, threads: int = 0,
    device: str = "cpu",
) -> Cascade: ...  # fmt: skip
def load(
    bundle: str | PathLike[str], *, fallback: str | PathLike[str] | None = None, threshold: float = 0.0,
    threads: int = 0, device: str = "cpu",
) -> Predictor | Cascade:  # fmt: skip
    """Load a bundle to classify texts: by onnxruntime if it was exported, else by PyTorch.

    Args:
        bundle: its directory, or what a command returned.
        fallback: who answers what the bundle is unsure of, as `score` takes it: another bundle, the directory of a
            Hugging Face classifier, or the URL of an endpoint.
        threshold: score below which the bundle is unsure; 0 takes its own, of `calibrate`.
        threads: of the model; 0 takes all cores.
        device: "cpu" or "cuda".

    Returns:
        A predictor: `classify` ranks the labels of texts, `predict` gives all scores [n, C]. With `fallback` a cascade,
        which has both, and `answers`: label, score, unsure and model of each text.

    Raises:
        ToolkitError: the bundle is damaged, or the packages to run it are missing; or a fallback that cannot be used.
    """
    if fallback is None and threshold:
        raise ToolkitError(f"threshold={threshold:g} without fallback", expected="the model that it is for")
    if fallback is None:
        return open_predictor(bundle, threads=threads, device=device)
    from toolkit.scoring.cascade import load_cascade

    return load_cascade(fspath(bundle), fspath(fallback), threshold=threshold, threads=threads, device=device)


def _require_training(purpose: str, *more: str) -> None:
    require_packages("torch", "transformers", "accelerate", "sklearn", "scipy", *more, purpose=purpose)
