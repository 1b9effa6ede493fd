"""The models of a server by name: loaded and checked, exchanged as a whole, and the one before kept to go back to."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from serve.batching import Engine
from serve.limits import Limits
from serve.metrics import Metrics
from serve.replay import Recent
from serve.schemas import ModelCard, ServeError
from serve.workers import Workers
from toolkit.bundle import open_bundle
from toolkit.errors import ToolkitError
from toolkit.predictor import OnnxRuntime, Predictor, check_company
from toolkit.tasks import Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # safe in a path, a header, and a label of a metric
PROBE = ("is the model well?", None)


def named(bundles: Sequence[str]) -> dict[str, str]:
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
    check_company(predictor)
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


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded bundle under its name, and the engine that runs it."""

    name: str
    predictor: Predictor
    engine: Engine

    @property
    def task(self) -> Task:
        """What its logits stand for."""
        return self.predictor.task

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return self.predictor.bundle.digest

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What says of an answer which model gave it."""
        return [(b"x-model", self.name.encode()), (b"x-model-digest", self.version.encode())]

    @property
    def version(self) -> str:
        """What tells it from others of its name: the first 12 hex digits of the bundle's digest."""
        return self.digest[:12]

    def card(self) -> ModelCard:
        """What /info tells of it."""
        bundle = self.predictor.bundle
        precision: Any = bundle.precision
        return ModelCard(
            name=self.name, digest=bundle.digest, task=self.task.name, kind=self.task.kind,
            labels=list(self.task.labels), precision=precision, max_length=bundle.max_length,
        )  # fmt: skip


class Models:
    """Everything that is served. A request takes a model once and is answered by it wholly, whatever happens since.

    Create and use it inside one event loop.

    Args:
        predictors: by name; the first is the one that requests without a name go to.
        limits: how much to take on, all models together.
        metrics: where batches are counted.
        remember: keep recent inputs, to compare a new model by.
    """

    def __init__(
        self, predictors: Mapping[str, Predictor], limits: Limits, metrics: Metrics, *, remember: bool = False
    ) -> None:
        self.limits, self._metrics = limits, metrics
        self.workers = Workers(limits.workers, metrics)
        self.changing = asyncio.Lock()  # one change at a time
        self.draining = False  # whether requests should go elsewhere from now on
        self._current = {name: self._model(name, predictor) for name, predictor in predictors.items()}
        self._previous: dict[str, Model] = {}
        self._recent = {name: Recent() for name in predictors} if remember else {}
        self._retiring: set[asyncio.Task[None]] = set()

    def all(self) -> list[Model]:
        """The model of each name, the default first."""
        return list(self._current.values())

    def get(self, name: str | None = None) -> Model:
        """The model of that name, or the default.

        Raises:
            ServeError: 404, there is none.
        """
        if name is None:
            return next(iter(self._current.values()))
        if name not in self._current:
            known = ", ".join(self._current)
            raise ServeError("Validation", f"no model {name[:64]!r}; this server has {known}", status=404)
        return self._current[name]

    def recent(self, name: str) -> Recent | None:
        """What was asked lately of the model of that name, where it is remembered."""
        return self._recent.get(name)

    def switch(self, name: str, predictor: Predictor) -> Model:
        """Let another model answer from the next request on; the one until now finishes its requests and stays loaded.

        The model before that one is let go of once its last request is answered.
        """
        before = self._current[name]
        model = self._model(name, predictor)
        if name in self._previous:
            self._retire(self._previous[name])
        self._previous[name], self._current[name] = before, model
        return model

    def rollback(self, name: str) -> Model:
        """Let the model before the latest switch answer again; the one given up finishes its requests.

        Raises:
            ServeError: 409, there is none; so asking twice does not undo the first time.
        """
        given_up = self.get(name)
        if name not in self._previous:
            raise ServeError("Validation", f"{name} has no earlier model to go back to", status=409)
        self._current[name] = self._previous.pop(name)
        self._retire(given_up)
        return self._current[name]

    async def healthy(self) -> bool:
        """Whether requests are answered; a model whose latest batch failed is asked again."""
        if self.draining:
            return False
        for engine in (model.engine for model in self.all()):
            if engine.failing:
                try:
                    await engine.predict([PROBE])
                except ServeError:
                    return False
        return True

    async def close(self) -> None:
        """Refuse new requests, finish the accepted ones, stop the threads."""
        self.draining = True
        engines = [model.engine for model in (*self._current.values(), *self._previous.values())]
        await asyncio.gather(*(engine.close() for engine in engines), *self._retiring)
        await self.workers.close()

    def _model(self, name: str, predictor: Predictor) -> Model:
        return Model(name, predictor, Engine(predictor, self.limits, self._metrics, self.workers, name))

    def _retire(self, model: Model) -> None:
        """Close it. A request that took it just now starts before the task made here does, and is still accepted."""
        task = asyncio.get_running_loop().create_task(model.engine.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
