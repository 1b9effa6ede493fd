"""The command line: each command calls the function of its name in `toolkit`, which is imported then."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Annotated

import typer

import toolkit
from toolkit import config
from toolkit.config.import_path import put_own_packages_first
from toolkit.config.options import GroupedCommand, from_config
from toolkit.console import echo, printable, show_error, show_table, show_tree, stderr
from toolkit.errors import GateError, ToolkitError, resource_error

app = typer.Typer(
    no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Distil a fine-tuned BERT into a TinyBERT student, export it to int8 ONNX, prove it, serve it.",
)  # fmt: skip
command = partial(app.command, cls=GroupedCommand)
STOPPED = 130  # the exit code that typer gives Ctrl-C
MAIN_PROCESS_GRACE_S = 3.0  # torchrun ends all processes once one has ended
Directory = Annotated[str, typer.Argument(metavar="DIR", help="bundle made by finetune, distill or export")]


def main() -> None:
    """Run a command. The exit code is 0 if done, 1 if a claim or gate is not met, 2 for bad usage or input."""
    put_own_packages_first()
    try:
        app()
    except ToolkitError as error:
        show_error(f"{'not met' if isinstance(error, GateError) else 'error'}: {error}")
        if stderr.quiet:
            time.sleep(MAIN_PROCESS_GRACE_S)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:
            show_error(
                "stopped: a training, a search or a scoring goes on where it was when the command is given again"
            )
        raise
    except Exception as error:
        if (resource := resource_error(error)) is None:
            raise
        show_error(f"error: {resource}")
        sys.exit(resource.exit_code)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Distil a fine-tuned BERT into a TinyBERT student, export it to int8 ONNX, prove it, serve it."""
    if version:
        echo(f"tinybert-toolkit {toolkit.__version__}")
        raise typer.Exit


@command()
@from_config(config.DemoConfig)
def demo(options: config.DemoConfig) -> None:
    """Run every step below on the embedded data set.

    Fine-tune, distil, export, bench, serve and ask. Steps that are there already are kept.
    """
    from toolkit.cli.demo import run_demo

    run_demo(options)


@command()
@from_config(config.FinetuneConfig)
def finetune(options: config.FinetuneConfig) -> None:
    """Fine-tune a Hugging Face encoder on a task, as a teacher."""
    toolkit.finetune(**vars(options))


@command()
@from_config(config.DistillConfig)
def distill(options: config.DistillConfig) -> None:
    """Distil a teacher into a small student, layer by layer.

    The teacher is a fine-tuned classifier, a file of its answers, or with --general any encoder.
    """
    if options.seeds and not options.general:
        toolkit.distill_seeds(**vars(options))
    else:
        toolkit.distill(**vars(options))


@command()
@from_config(config.CompressConfig)
def compress(options: config.CompressConfig) -> None:
    """Find the best student within a budget.

    Milliseconds, megabytes, points of the metric: shapes are priced on this CPU, tried, finished and exported.
    """
    toolkit.compress(**vars(options))


@command()
@from_config(config.AugmentConfig)
def augment(options: config.AugmentConfig) -> None:
    """Make more training rows by exchanging words.

    A masked language model and GloVe offer the words.
    """
    toolkit.augment(**vars(options))


@command()
@from_config(config.EvaluateConfig)
def evaluate(options: config.EvaluateConfig) -> None:
    """Score a bundle on a labelled split."""
    split, metrics = toolkit.evaluate(**vars(options))
    for name, value in metrics.items():
        echo(f"{split} {name} {100 * value:.2f}")


@command("inspect")
def show(
    directory: Directory,
    bom: Annotated[
        str | None, typer.Option(metavar="FILE", help="write a bill of materials too, in CycloneDX's JSON")
    ] = None,
) -> None:
    """Show what a bundle holds and where it comes from.

    Its chain to teacher and data, gates, metrics, sizes and operators.
    """
    from toolkit.cli.inspect_bundle import inspect_bundle, write_bill

    show_tree(inspect_bundle(directory))
    if bom is not None:
        write_bill(directory, bom)


@command()
@from_config(config.ExportConfig)
def export(options: config.ExportConfig) -> None:
    """Turn a PyTorch bundle into verified ONNX.

    Nothing is written when a gate is missed.
    """
    toolkit.export(**vars(options))


@command()
@from_config(config.CalibrateConfig)
def calibrate(options: config.CalibrateConfig) -> None:
    """Calibrate a bundle's scores by labelled rows.

    A score of 0.9 then means that 9 answers in 10 are right. Labels do not change.
    """
    toolkit.calibrate(**vars(options))


@command()
@from_config(config.BenchConfig)
def bench(options: config.BenchConfig) -> None:
    """Measure size, FLOPs and latency against BERT-base.

    The exit code is 1 when a claim is not met.
    """
    report = toolkit.bench(**vars(options))
    if not options.compare:
        from toolkit.benchmarking.bench import require_claims

        require_claims(report)


@command()
@from_config(config.CascadeConfig)
def cascade(options: config.CascadeConfig) -> None:
    """Weigh a student with its teacher behind it.

    Accuracy against cost where the teacher answers what the student is unsure of: every threshold of the student's
    score is a cascade, and the one that `toolkit calibrate` promised something about is marked. `toolkit serve STUDENT
    --fallback TEACHER` runs it.
    """
    toolkit.cascade(**vars(options))


@command()
def predict(
    directory: Directory,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="text to classify; - reads one from each line of stdin")],
    pair: Annotated[str | None, typer.Option(metavar="TEXT", help="second text, for tasks on pairs")] = None,
    top_k: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="labels to show, best first [default: 5; of each line of stdin 1]"),
    ] = None,
) -> None:
    """Classify a text, a pair of texts, or lines."""
    from toolkit.inference.predict import STANDARD_INPUT, is_unsure_answer, predict_lines
    from toolkit.inference.predictor import check_input

    predictor = toolkit.load(directory)
    if text == STANDARD_INPUT and pair is None:
        for line in predict_lines(predictor, sys.stdin, top_k or 1):
            typer.echo("\t".join(map(printable, line.split("\t"))))
        return
    check_input(predictor.task, text, pair)
    (answer,) = predictor.classify([text], None if pair is None else [pair])
    best = answer[: top_k or 5]
    show_table("", ("label", "score"), [(label, f"{score:.4f}") for label, score in best])
    if is_unsure_answer(predictor, answer):
        echo("unsure: the best score is below the bundle's threshold")
    if (more := len(answer) - len(best)) and top_k is None:
        echo(f"and {more} more (--top-k {len(answer)})")


@command()
@from_config(config.ScoreConfig)
def score(options: config.ScoreConfig) -> None:
    """Classify files of texts of any size, on all CPUs.

    The output has the input's columns and rows, with label, score, and a probability for each label. A killed command
    goes on where it was.
    """
    toolkit.score(**vars(options))


@command()
@from_config(config.ServeConfig)
def serve(options: config.ServeConfig) -> None:
    """Serve ONNX bundles over HTTP.

    Endpoints: /predict, /v2, /health, /info, /metrics, /docs, and a page at /.
    """
    toolkit.serve(**vars(options))


@command()
@from_config(config.PushConfig)
def push(options: config.PushConfig) -> None:
    """Put a bundle on the Hugging Face hub.

    The repository is private unless --public. All files come in one commit. The token stands in HF_TOKEN.
    """
    from toolkit.cli.sharing import push_bundle

    push_bundle(options)


@command()
@from_config(config.PullConfig)
def pull(options: config.PullConfig) -> None:
    """Get a bundle from the Hugging Face hub.

    Its files are of one commit, and are checked by their hashes before the folder appears.
    """
    from toolkit.cli.sharing import pull_bundle

    pull_bundle(options)


@command()
@from_config(config.SignConfig)
def sign(options: config.SignConfig) -> None:
    """Sign a bundle with a private key.

    Its files and their hashes stay as they are; model.sig comes beside them.
    """
    from toolkit.bundle.format import open_bundle
    from toolkit.bundle.signature import sign_bundle

    echo(f"signed: {sign_bundle(open_bundle(options.bundle), options.key)}")


@command()
@from_config(config.VerifyConfig)
def verify(options: config.VerifyConfig) -> None:
    """Check a bundle's signature by a public key."""
    from toolkit.bundle.format import open_bundle
    from toolkit.bundle.signature import verify_bundle

    bundle = open_bundle(options.bundle)
    verify_bundle(bundle, options.key)
    echo(f"{bundle.path} is as the holder of {options.key} signed it: {bundle.digest}")
