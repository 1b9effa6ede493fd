"""Bundles opened for serving: their names, their checks, and the predictor of each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serve.models.registry import PROBE
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, check_batch_invariance
from toolkit.inference.runtimes import OnnxRuntime

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # safe in a path, a header, and a label of a metric


def parse_model_names(bundles: Sequence[str]) -> dict[str, str]:
    """Directories by the name they are served under: their own, or the one given as NAME=DIR.

    Raises:
        ToolkitError: none is given, two share a name, or a name that does not fit into a path.
    """
    found: dict[str, str] = {}
    for given in bundles:
        name, equals, directory = given.partition("=")
        if not equals or Path(given).is_dir():  # a directory may have = in its name
            directory = given
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(given).resolve().name).strip("-._")[:64] or "model"
        if not NAME.fullmatch(name):
            raise ToolkitError(f"{given}: {name!r} is no name for a model", expected="letters, digits, and . _ -")
        if name in found:
            raise ToolkitError(
                f"{found[name]} and {directory} would both be {name}", fix=f"another name: {name}-2={directory}"
            )
        found[name] = directory
    if not found:
        raise ToolkitError(
            "no bundle to serve", expected="one or more directories made by toolkit export",
            fix="name them, or where there is no command line set TOOLKIT_BUNDLE",
        )  # fmt: skip
    return found


def load_predictor(path: str | Path) -> Predictor:
    """Verify an exported bundle, load it, and run it on a short input and on one as long as it takes.

    Raises:
        ToolkitError: the bundle is damaged, is not exported, its model does not fit its labels or its length, or this
            machine's onnxruntime runs it wrongly.
    """
    bundle = open_bundle(path)
    if bundle.weights.suffix != ".onnx":
        raise ToolkitError(
            f"{bundle.path} is a PyTorch bundle ({bundle.weights.name}); the server runs ONNX only",
            expected="a bundle made by toolkit export",
            fix=f"export it first: toolkit export {bundle.path} --int8 --out {bundle.path}-int8",
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its own threads spin on the CPUs that models run on
    predictor = Predictor(bundle, OnnxRuntime(bundle.weights, threads=1, spinning=False, memory_pattern=False))
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
