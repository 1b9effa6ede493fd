"""Fallbacks: a second bundle in this process, or a classifier behind a URL, checked before anything listens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve.engine.engine import Engine
from serve.engine.limits import Limits
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics, Outcome
from serve.models.cascade import Cascade, Fallback, NoAnswer, SecondAnswer, Share
from serve.models.endpoint import Endpoint, EndpointFallback, labels_of
from serve.models.loading import load_predictor, parse_model_names
from serve.models.registry import thresholds_of
from toolkit.bundle.calibration import is_unsure
from toolkit.config import ServeConfig
from toolkit.data.tokenization import Direction
from toolkit.errors import ToolkitError, some
from toolkit.inference.predictor import Predictor

URL = re.compile(r"(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})=)?(?P<url>https?://.+)", re.DOTALL)


@dataclass(frozen=True)
class FallbackSource:
    """What `--fallback` names: a loaded bundle or an endpoint, and its name in headers and metrics."""

    name: str
    source: Predictor | Endpoint

    def connect(self, labels: Sequence[str], limits: Limits, metrics: Metrics, concurrency: int) -> Fallback:
        """Make the fallback of a model of those labels, inside the event loop that asks it."""
        if isinstance(self.source, Endpoint):
            return EndpointFallback(self.name, self.source, labels)
        return BundleFallback(self.name, self.source, labels, limits, metrics, concurrency)


def open_fallback(config: ServeConfig, predictors: Mapping[str, Predictor], limits: Limits) -> FallbackSource | None:
    """Open what `--fallback` names and check that it can stand behind the first model; None where it names nothing.

    An endpoint that does not answer now may do so later: the server starts, and its answers are checked one by one.

    Raises:
        ToolkitError: nothing tells what the first model is unsure of, the fallback cannot be used, or its labels are
            others.
    """
    given = config.fallback
    if given is None:
        return None
    first, predictor = next(iter(predictors.items()))
    if thresholds_of(predictor, config.threshold) is None:
        raise ToolkitError(
            f"--fallback {given}: nothing tells what {first} is unsure of",
            expected="a first model that gives one label of several, with a threshold",
            fix=f"toolkit calibrate {predictor.bundle.path} --accurate 0.98, or --threshold 0.9",
        )
    source, labels = _opened(config, given, predictor.task.labels)
    if source.name in predictors:
        raise ToolkitError(
            f"--fallback {given} would be {source.name}, as a model that is served", fix=f"--fallback big={given}"
        )
    if labels is not None and sorted(labels) != sorted(predictor.task.labels):
        raise ToolkitError(
            f"--fallback {given}: its labels are {some(sorted(labels))}; those of {first} are "
            f"{some(sorted(predictor.task.labels))}", expected="the same labels, in any order",
        )  # fmt: skip
    if isinstance(source.source, Predictor):
        limits.check(source.source.bundle.max_length)
    return source


def _opened(config: ServeConfig, given: str, own: Sequence[str]) -> tuple[FallbackSource, Sequence[str] | None]:
    """Open a fallback; give its labels too, or None where they cannot be told now."""
    if match := URL.fullmatch(given):
        endpoint = Endpoint(match["url"].rstrip("/"), config.fallback_model)
        return FallbackSource(match["name"] or "fallback", endpoint), labels_of(endpoint, own)
    ((name, directory),) = parse_model_names([given]).items()
    predictor = load_predictor(directory, config.require_signature)
    if predictor.task.kind != "classification":
        expected = "one that gives one label of several"
        raise ToolkitError(f"--fallback {given} is a {predictor.task.kind} model", expected=expected)
    return FallbackSource(name, predictor), predictor.task.labels


class BundleFallback:
    """A bundle with an engine, a queue and threads of its own: half of the CPUs, so that the first model finds some.

    Args:
        name: in headers and metrics.
        predictor: the model.
        labels: of the first model, the order of the answers.
        limits: of the server.
        metrics: of the server.
        concurrency: requests at once.
    """

    def __init__(
        self, name: str, predictor: Predictor, labels: Sequence[str], limits: Limits, metrics: Metrics, concurrency: int
    ) -> None:
        self.name, self.digest = name, predictor.bundle.digest[:12]
        self._predictor, self._thresholds = predictor, predictor.thresholds
        self._order = [predictor.task.labels.index(label) for label in labels]
        self._workers = WorkerPool(max(1, limits.workers // 2), metrics.fallback.queue_size)
        own = replace(limits, max_concurrent_requests=concurrency * limits.max_client_batch_size)
        self._engine = Engine(predictor, own, metrics, self._workers, name)

    async def ask(self, texts: Sequence[Text], direction: Direction, timeout_s: float) -> SecondAnswer:
        """Classify n texts or pairs."""
        try:
            result = await self._engine.predict(texts, direction=direction, timeout_ms=max(1, int(1000 * timeout_s)))
        except ServeError as error:
            if error.error_type == "Timeout":
                raise TimeoutError from None
            outcome: Outcome = "busy" if error.error_type == "Overloaded" else "error"
            raise NoAnswer(error.message, outcome, faulty=error.error_type == "Backend") from None
        scores, own = self._predictor.scores(result.logits), self._thresholds
        unsure = np.zeros(len(scores), dtype=bool) if own is None else is_unsure(scores, own)
        return SecondAnswer(result.logits[:, self._order], scores[:, self._order], unsure)

    async def close(self) -> None:
        """Finish accepted requests and stop the threads."""
        await self._engine.close()
        await self._workers.close()


def make_cascade(
    source: FallbackSource, labels: Sequence[str], limits: Limits, metrics: Metrics, config: ServeConfig
) -> Cascade:
    """Make the cascade of a model of those labels and its fallback, inside the event loop that runs both."""
    fallback = source.connect(labels, limits, metrics, config.fallback_concurrency)
    return Cascade(
        fallback, timeout_s=config.fallback_timeout_ms / 1000, concurrency=config.fallback_concurrency,
        share=Share(config.max_fallback_share, limits.max_client_batch_size), metrics=metrics.fallback,
    )  # fmt: skip
