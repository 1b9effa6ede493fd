"""The command line. Options come from `toolkit.config`; packages are imported only by the command that needs them."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from toolkit import __version__, config
from toolkit.config.options import from_config
from toolkit.console import echo, show_table, show_tree, stderr
from toolkit.errors import GateError, ToolkitError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Distil a fine-tuned BERT into a TinyBERT student, export it to int8 ONNX, prove it, serve it.",
)  # fmt: skip
MAIN_PROCESS_GRACE_S = 3.0  # torchrun ends all processes once one has ended
Directory = Annotated[str, typer.Argument(metavar="DIR", help="bundle made by finetune, distill or export")]


def main() -> None:
    """Entry point: 0 done, 1 a claim or gate not met, 2 bad usage or input; no traceback for a user's mistake."""
    try:
        app()
    except ToolkitError as error:
        stderr.print(f"{'not met' if isinstance(error, GateError) else 'error'}: {error}", markup=False)
        if stderr.quiet:
            time.sleep(MAIN_PROCESS_GRACE_S)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stderr.print("stopped")
        sys.exit(130)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Distil a fine-tuned BERT into a TinyBERT student, export it to int8 ONNX, prove it, serve it."""
    if version:
        echo(f"tinybert-toolkit {__version__}")
        raise typer.Exit


@app.command()
@from_config(config.DemoConfig)
def demo(options: config.DemoConfig) -> None:
    """Everything below on the embedded default: fine-tune, distil, export, bench, serve, ask."""
    from toolkit.cli.demo import run_demo

    run_demo(options)


@app.command()
@from_config(config.FinetuneConfig)
def finetune(options: config.FinetuneConfig) -> None:
    """Make a teacher: fine-tune any Hugging Face encoder on a labelled task."""
    _require_training("toolkit finetune")
    from toolkit.training.finetune import run_finetune

    run_finetune(options)


@app.command()
@from_config(config.DistillConfig)
def distill(options: config.DistillConfig) -> None:
    """Make a student: distil a fine-tuned classifier, or with --general any encoder, layer by layer."""
    _require_training("toolkit distill", "jinja2", "matplotlib")
    if options.general:
        from toolkit.distillation.general import run_general

        run_general(options)
        return
    from toolkit.distillation.distill import run_distill
    from toolkit.distillation.seeds import run_seeds

    if options.seeds:
        run_seeds(options)
    else:
        run_distill(options)


@app.command()
@from_config(config.AugmentConfig)
def augment(options: config.AugmentConfig) -> None:
    """Make more training rows: exchange words for what a masked language model or GloVe offers in their place."""
    from toolkit.augmentation.augment import run_augment

    run_augment(options)


@app.command()
def evaluate(
    directory: Directory,
    task: Annotated[str | None, typer.Option(help="[default: the bundle's own]")] = None,
    data: Annotated[str | None, typer.Option(help="folder with the file of the split")] = None,
    split: Annotated[str, typer.Option(help="dev, train, or for MNLI dev_mismatched")] = "dev",
    threads: Annotated[int, typer.Option(help="0 takes every core")] = 0,
) -> None:
    """Score a bundle on a labelled split."""
    from toolkit.inference.evaluate import evaluate_bundle

    metrics = evaluate_bundle(directory, task=task, data=data, split=split, threads=threads)
    for name, value in metrics.items():
        echo(f"{name} {100 * value:.2f}")


@app.command("inspect")
def show(directory: Directory) -> None:
    """Tell what a bundle is made from and of: its chain to teacher and data, gates, metrics, sizes, operators."""
    from toolkit.cli.inspect_bundle import inspect_bundle

    show_tree(inspect_bundle(directory))


@app.command()
@from_config(config.ExportConfig)
def export(options: config.ExportConfig) -> None:
    """Turn a PyTorch bundle into verified ONNX; nothing is written when a gate is missed."""
    from toolkit.errors import require_packages

    require_packages("torch", "transformers", "optimum", "onnx", "onnxruntime", purpose="toolkit export")
    from export.pipeline import run_export

    run_export(options)


@app.command()
@from_config(config.BenchConfig)
def bench(options: config.BenchConfig) -> None:
    """Measure size, FLOPs and latency against BERT-base; exit 1 when a claim is not met."""
    from toolkit.errors import require_packages

    require_packages(
        "torch", "transformers", "onnx", "onnxruntime", "matplotlib", purpose="toolkit bench", extra="bench"
    )
    from toolkit.bench.bench import run_bench

    run_bench(options)


@app.command()
def predict(
    directory: Directory,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="what to classify")],
    pair: Annotated[str | None, typer.Option(help="second text, for tasks on pairs")] = None,
) -> None:
    """Classify one text, or one pair of texts."""
    from toolkit.inference.predictor import open_predictor

    predictor = open_predictor(directory)
    scores = predictor.predict([text], None if pair is None else [pair])[0]
    ranked = sorted(zip(predictor.task.labels, scores, strict=True), key=lambda one: -one[1])
    show_table("", ("label", "score"), [(label, f"{score:.4f}") for label, score in ranked])


@app.command()
@from_config(config.ServeConfig)
def serve(options: config.ServeConfig) -> None:
    """Serve ONNX bundles over HTTP: /predict, /v2, /health, /info, /metrics, /docs, and a page at /."""
    from toolkit.errors import require_packages

    require_packages("onnxruntime", "fastapi", "uvicorn", "prometheus_client", purpose="toolkit serve")
    from serve.__main__ import run

    run(options)


def _require_training(purpose: str, *more: str) -> None:
    from toolkit.errors import require_packages

    require_packages("torch", "transformers", "accelerate", "sklearn", "scipy", *more, purpose=purpose)
