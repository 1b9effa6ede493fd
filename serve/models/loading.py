"""Bundles opened for serving: their names, their checks, and the predictor of each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from serve.models.registry import PROBE
from toolkit.bundle.contents import read_weights
from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.bundle.signature import verify_bundle
from toolkit.config.model_names import NamedModel
from toolkit.errors import ToolkitError, require_packages
from toolkit.inference.predictor import Classifier, Predictor, check_batch_invariance, memory_of, open_predictor
from toolkit.inference.runtimes import OnnxRuntime, memory_limit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def parse_model_names(bundles: Sequence[str]) -> dict[str, str]:
    """Parse DIR and NAME=DIR into directories by name; without NAME a model has its directory's name.

    Raises:
        ToolkitError: there is no bundle, two share a name, or a name does not fit into a path.
    """
    directories: dict[str, str] = {}
    for bundle in bundles:
        model = NamedModel.parse(bundle)
        if model.name in directories:
            raise ToolkitError(
                f"{directories[model.name]} and {model.place} would both be {model.name}",
                fix=f"another name: {model.name}-2={model.place}",
            )
        directories[model.name] = model.place
    if not directories:
        raise ToolkitError(
            "no bundle to serve", expected="one or more directories made by toolkit export",
            fix="name them, or where there is no command line set TOOLKIT_BUNDLE",
        )  # fmt: skip
    return directories


def load_predictor(path: str | Path, signer: str | None = None) -> Predictor:
    """Verify an exported bundle, load it, and run it on a short input and on one of its full length.

    Args:
        path: the bundle.
        signer: file of the public key whose holder must have signed it; None takes unsigned bundles too.

    Raises:
        ToolkitError: the bundle is damaged, not signed as it must be, is not exported, its model does not fit its
            labels or its length, or this machine's onnxruntime runs it wrongly.
    """
    bundle = _signed(path, signer)
    if bundle.weights.suffix != ".onnx":
        raise ToolkitError(
            f"{bundle.path} is a PyTorch bundle ({bundle.weights.name}); the server runs ONNX only",
            expected="a bundle made by toolkit export",
            fix=f"export it first: toolkit export {bundle.path} --int8 --out {bundle.path}-int8",
        )
    return _run_exported(bundle)


def _run_exported(bundle: Bundle) -> Predictor:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the tokenizer's threads would spin on the models' CPUs
    content = read_weights(bundle)  # what is served is what was verified, whatever becomes of the directory
    with memory_limit(memory_of(bundle)):
        runtime = OnnxRuntime(bundle.weights, threads=1, spinning=False, memory_pattern=False, content=content)
        predictor = Predictor(bundle, runtime)
        _check_model(predictor, bundle.path)
        check_batch_invariance(predictor)
    return predictor


def load_second(path: str, signer: str | None = None) -> Classifier:
    """Load what stands behind a served model: an exported bundle as `load_predictor` does, or a PyTorch classifier.

    PyTorch and transformers are loaded for the latter alone.

    Args:
        path: an exported or a PyTorch bundle, or the directory of a Hugging Face classifier.
        signer: as `load_predictor` has it.

    Raises:
        ToolkitError: as `load_predictor`; or a directory without a classifier, or without a signature where it must
            have one.
    """
    if not Path(path).is_dir() or is_bundle(Path(path)):
        bundle = _signed(path, signer)
        if bundle.weights.suffix == ".onnx":
            return _run_exported(bundle)
        require_packages("torch", "transformers", purpose=f"running {path} in PyTorch")
        classifier: Classifier = open_predictor(path, threads=1)
    else:
        if signer is not None:
            raise ToolkitError(f"{path} is no bundle, which alone can be signed", expected=f"one signed for {signer}")
        from toolkit.inference.hugging_face import open_hugging_face

        classifier = open_hugging_face(path)
    _check_model(classifier, path)
    return classifier


def _signed(path: str | Path, signer: str | None) -> Bundle:
    bundle = open_bundle(path)
    if signer is not None:
        verify_bundle(bundle, signer)
    return bundle


def _check_model(predictor: Classifier, path: str | Path) -> None:
    labels = predictor.task.labels
    texts = [PROBE[0], PROBE[0] * predictor.encoder.max_length]
    try:
        logits = predictor.logits(predictor.encoder.encode(texts), batch_size=1)
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ToolkitError(f"{path}: the model does not run: {error}", fix="export it again") from error
    if logits.shape[1] != len(labels):
        raise ToolkitError(
            f"{path}: the model gives {logits.shape[1]} scores for {len(labels)} labels", fix="export it again"
        )
    if not np.isfinite(logits).all():
        raise ToolkitError(f"{path}: the model gives scores that are not finite", fix="export it again")


async def in_daemon_thread(
    work: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
) -> Result:
    """Await slow work on a thread of its own, which keeps neither other work nor the end of the process waiting."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work(*args, **options))
        except BaseException as error:  # of any kind: it is raised where the work is awaited
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="load").start()
    return await asyncio.wrap_future(future)
