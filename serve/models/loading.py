"""Bundles opened for serving: their names, their checks, and the predictor of each."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from serve.models.registry import PROBE
from toolkit.bundle.contents import read_weights
from toolkit.bundle.format import open_bundle
from toolkit.bundle.signature import verify_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, check_batch_invariance, memory_of
from toolkit.inference.runtimes import OnnxRuntime, memory_limit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # safe in a path, a header, and a label of a metric


def parse_model_names(bundles: Sequence[str]) -> dict[str, str]:
    """Parse DIR and NAME=DIR into directories by name; without NAME a model has its directory's name.

    Raises:
        ToolkitError: there is no bundle, two share a name, or a name does not fit into a path.
    """
    directories: dict[str, str] = {}
    for bundle in bundles:
        name, equals, directory = bundle.partition("=")
        if not equals or Path(bundle).is_dir():  # a directory may have = in its name
            directory = bundle
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(bundle).resolve().name).strip("-._")[:64] or "model"
        if not NAME.fullmatch(name):
            raise ToolkitError(f"{bundle}: {name!r} is no name for a model", expected="letters, digits, and . _ -")
        if name in directories:
            raise ToolkitError(
                f"{directories[name]} and {directory} would both be {name}", fix=f"another name: {name}-2={directory}"
            )
        directories[name] = directory
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
    bundle = open_bundle(path)
    if signer is not None:
        verify_bundle(bundle, signer)
    if bundle.weights.suffix != ".onnx":
        raise ToolkitError(
            f"{bundle.path} is a PyTorch bundle ({bundle.weights.name}); the server runs ONNX only",
            expected="a bundle made by toolkit export",
            fix=f"export it first: toolkit export {bundle.path} --int8 --out {bundle.path}-int8",
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the tokenizer's threads would spin on the models' CPUs
    content = read_weights(bundle)  # what is served is what was verified, whatever becomes of the directory
    with memory_limit(memory_of(bundle)):
        runtime = OnnxRuntime(bundle.weights, threads=1, spinning=False, memory_pattern=False, content=content)
        predictor = Predictor(bundle, runtime)
        _check_model(predictor)
        check_batch_invariance(predictor)
    return predictor


def _check_model(predictor: Predictor) -> None:
    path, labels = predictor.bundle.path, predictor.task.labels
    texts = [PROBE[0], PROBE[0] * predictor.bundle.max_length]
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
