"""The models of a server by name: a swap exchanges a model as a whole and keeps the one before for a rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from serve.engine.engine import Engine, EngineResult
from serve.engine.limits import Limits
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics
from serve.models.audit import Audit
from serve.models.cascade import Cascade, CascadeResult
from serve.models.replay import RecentInputs
from serve.models.watch import Watch
from toolkit.bundle.calibration import is_unsure
from toolkit.data.tokenization import Direction
from toolkit.errors import ToolkitError
from toolkit.inference.cascade import thresholds_of
from toolkit.inference.predictor import Predictor
from toolkit.tasks import Task

PROBE = ("is the model well?", None)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded bundle under its name, and the engine that runs it.

    Attributes:
        thresholds: of each label, [C]; an answer with a lower score is unsure; None where nothing tells.
        cascade: whom the texts of unsure answers go to; None where the model is alone.
        audit: compares sure answers with the fallback's; None where there is none.
        watch: counts the answers.
    """

    name: str
    predictor: Predictor
    engine: Engine
    watch: Watch
    thresholds: np.ndarray | None = None
    cascade: Cascade | None = None
    audit: Audit | None = None

    @property
    def threshold(self) -> float | None:
        """The lowest threshold of a label, below which every answer is unsure; None where nothing tells."""
        return None if self.thresholds is None else float(self.thresholds.min())

    @property
    def task(self) -> Task:
        """The task, which gives the logits their meaning."""
        return self.predictor.task

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return self.predictor.bundle.digest

    def predict(
        self, texts: Sequence[Text], *, truncate: bool, direction: Direction, timeout_ms: int | None
    ) -> Coroutine[Any, Any, EngineResult]:
        """Classify texts and pairs as `Engine.predict` does, those of unsure answers by the fallback too."""
        if self.cascade is None or self.thresholds is None:
            return self.engine.predict(texts, truncate=truncate, direction=direction, timeout_ms=timeout_ms)
        doubts = partial(self._doubts, self.thresholds)
        return self.cascade.predict(
            self.engine, doubts, texts, truncate=truncate, direction=direction, timeout_ms=timeout_ms
        )

    def scores(self, result: EngineResult, *, raw: bool = False) -> np.ndarray:
        """Give the calibrated scores [n, C] of a result, or its logits, of whichever model answered."""
        scores = self.predictor.scores(result.logits, raw=raw)
        return result.merged(scores, raw=raw) if isinstance(result, CascadeResult) else scores

    def unsure(self, result: EngineResult) -> np.ndarray | None:
        """Tell for each input of a result whether its answer is unsure, bool [n]; None where nothing tells."""
        if isinstance(result, CascadeResult):
            return result.unsure
        return None if self.thresholds is None else self._doubts(self.thresholds, result)

    def _doubts(self, thresholds: np.ndarray, result: EngineResult) -> np.ndarray:
        """Tell for each input whether the model itself is unsure, bool [n]."""
        return is_unsure(self.predictor.scores(result.logits), thresholds)

    def headers_of(self, result: EngineResult) -> list[tuple[bytes, bytes]]:
        """Make the headers that name whoever answered."""
        return result.answered_by(self.name, self.version) if isinstance(result, CascadeResult) else self.headers

    @cached_property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of an answer that name the model."""
        return [(b"x-model", self.name.encode()), (b"x-model-digest", self.version.encode())]

    @property
    def version(self) -> str:
        """The first 12 hex digits of the bundle's digest, which tell the model from others of its name."""
        return self.digest[:12]


class Models:
    """The served models. A request takes a model once, and no other of its name answers it, whatever is swapped then.

    Create and use it inside one event loop.

    Args:
        predictors: by name; requests without a name go to the first.
        limits: how much to accept, all models together.
        metrics: the counters of batches and durations.
        remember: keep recent inputs, on which a swap compares the old and the new model.
        threshold: of the scores of every model that gives one label; 0 for the bundles' own.
        cascade, audit: of the first name, whichever model has it.
    """

    def __init__(
        self, predictors: Mapping[str, Predictor], limits: Limits, metrics: Metrics, *, remember: bool = False,
        threshold: float = 0.0, cascade: Cascade | None = None, audit: Audit | None = None,
    ) -> None:  # fmt: skip
        check_threshold(predictors, threshold)
        self.limits, self._metrics, self._threshold = limits, metrics, threshold
        self._first, self._cascade, self._audit = next(iter(predictors), None), cascade, audit
        self.workers = WorkerPool(limits.workers, metrics.queue_size)
        self.changing: set[str] = set()  # names whose new model is being loaded and compared
        self.draining = False  # load balancers should send requests elsewhere
        self._current = {name: self._model(name, predictor) for name, predictor in predictors.items()}
        self._previous: dict[str, Model] = {}
        self._recent = {name: RecentInputs() for name in predictors} if remember else {}
        self._retiring: set[asyncio.Task[None]] = set()

    def all(self) -> list[Model]:
        """Return the model of each name, the default first."""
        return list(self._current.values())

    def get(self, name: str | None = None) -> Model:
        """Return the model of that name, or the default.

        Raises:
            ServeError: 404, no model has that name.
        """
        if name is None:
            return next(iter(self._current.values()))
        if name not in self._current:
            known = ", ".join(self._current)
            raise ServeError("Validation", f"no model {name[:64]!r}; this server has {known}", status=404)
        return self._current[name]

    def thresholds(self, predictor: Predictor) -> np.ndarray | None:
        """Return the threshold of each label that a predictor would have here, [C]; None where nothing tells."""
        return thresholds_of(predictor, self._threshold)

    def recent(self, name: str) -> RecentInputs | None:
        """Return the recent inputs of the model of that name, or None where they are not kept."""
        return self._recent.get(name)

    def switch(self, name: str, predictor: Predictor) -> Model:
        """Let another model answer from the next request on; the old one finishes its requests and stays loaded.

        The model before the old one is closed once its last request is answered.
        """
        before = self._current[name]
        if before.watch.drift is not None:
            before.watch.drift.hide()
        model = self._model(name, predictor)
        if name in self._previous:
            self._retire(self._previous[name])
        self._previous[name], self._current[name] = before, model
        return model

    def rollback(self, name: str) -> Model:
        """Let the model before the latest switch answer again; the current one finishes its requests.

        Raises:
            ServeError: 409, there is no earlier model; so a second rollback does not undo the first.
        """
        current = self.get(name)
        if name not in self._previous:
            raise ServeError("Validation", f"{name} has no earlier model to go back to", status=409)
        model = self._current[name] = self._previous.pop(name)
        self._retire(current)
        if current.watch.drift is not None:
            current.watch.drift.hide()
        if model.watch.drift is not None:
            model.watch.drift.show()
        return model

    def catch_up(self) -> None:
        """Count the answers that wait to be counted."""
        for model in self.all():
            model.watch.catch_up()

    async def healthy(self) -> bool:
        """Return whether requests are answered; a model whose latest batch failed runs again on a probe."""
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
        if self._audit is not None:
            await self._audit.close()
        models = [*self._current.values(), *self._previous.values()]
        await asyncio.gather(*(model.engine.close() for model in models), *self._retiring)
        for model in models:
            model.watch.catch_up()
        if self._cascade is not None:
            await self._cascade.close()
        await self.workers.close()

    def _model(self, name: str, predictor: Predictor) -> Model:
        engine = Engine(predictor, self.limits, self._metrics, self.workers, name)
        thresholds, watch = self.thresholds(predictor), Watch(name, predictor, self._metrics)
        cascade, audit = (self._cascade, self._audit) if name == self._first else (None, None)
        audit = None if thresholds is None else audit  # of such a model nothing is sure
        return Model(name, predictor, engine, watch, thresholds, cascade, audit)

    def _retire(self, model: Model) -> None:
        """Close a model in a task of its own; a request that has just taken the model starts before and is accepted."""
        task = asyncio.get_running_loop().create_task(model.engine.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def check_threshold(predictors: Mapping[str, Predictor], given: float) -> None:
    """Refuse a threshold that no model would use.

    Raises:
        ToolkitError: a threshold is given, and no model gives one label of several.
    """
    kinds = {name: predictor.task.kind for name, predictor in predictors.items()}
    if given and "classification" not in kinds.values():
        listed = ", ".join(f"{name} is a {kind} model" for name, kind in kinds.items())
        raise ToolkitError(f"--threshold {given:g}: {listed}", expected="a model that gives one label of several")
