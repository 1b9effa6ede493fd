"""Fallbacks: a second classifier in this process or one behind a URL, checked before anything listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from serve.engine.engine import Engine
from serve.engine.limits import Limits
from serve.engine.tokenization import Text
from serve.engine.workers import WorkerPool
from serve.exceptions import ServeError
from serve.metrics import Metrics, Outcome
from serve.models.cascade import Cascade, Fallback, NoAnswer, Share
from serve.models.endpoint import Endpoint, EndpointFallback, labels_of
from serve.models.loading import load_second
from toolkit.config import ServeConfig
from toolkit.config.model_names import NamedModel
from toolkit.data.tokenization import Direction
from toolkit.errors import ToolkitError
from toolkit.inference.cascade import SecondAnswer, label_places, require_labels, require_thresholds, thresholds_of
from toolkit.inference.predictor import Classifier, Predictor


@dataclass(frozen=True)
class FallbackSource:
    """What `--fallback` names: a loaded classifier or an endpoint, and its name in headers and metrics."""

    name: str
    source: Classifier | Endpoint

    def connect(self, labels: Sequence[str], limits: Limits, metrics: Metrics, concurrency: int) -> Fallback:
        """Make the fallback of a model of those labels, inside the event loop that asks it."""
        if isinstance(self.source, Endpoint):
            return EndpointFallback(self.name, self.source, labels)
        return LocalFallback(self.name, self.source, labels, limits, metrics, concurrency)


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
    require_thresholds(thresholds_of(predictor, config.threshold), given, first, predictor.bundle.path)
    source, labels = _opened(config, given, predictor.task.labels)
    if source.name in predictors:
        raise ToolkitError(
            f"--fallback {given} would be {source.name}, as a model that is served", fix=f"--fallback big={given}"
        )
    if labels is not None:
        label_places(predictor.task.labels, labels, f"--fallback {given}")
    if isinstance(source.source, Classifier):
        limits.check(source.source.encoder.max_length)
    return source


def _opened(config: ServeConfig, given: str, own: Sequence[str]) -> tuple[FallbackSource, Sequence[str] | None]:
    """Open a fallback; give its labels too, or None where they cannot be told now."""
    model = NamedModel.parse(given)
    if model.remote:
        endpoint = Endpoint(model.place, config.fallback_model)
        return FallbackSource(model.name, endpoint), labels_of(endpoint, own)
    classifier = load_second(model.place, config.require_signature)
    require_labels(classifier.task.kind, f"--fallback {given}")
    return FallbackSource(model.name, classifier), classifier.task.labels


class LocalFallback:
    """A classifier in this process with an engine, a queue and threads of its own.

    They are half of the CPUs, so that the first model finds some.

    Args:
        name: in headers and metrics.
        classifier: the model.
        labels: of the first model, the order of the answers.
        limits: of the server.
        metrics: of the server.
        concurrency: requests at once.
    """

    def __init__(
        self,
        name: str,
        classifier: Classifier,
        labels: Sequence[str],
        limits: Limits,
        metrics: Metrics,
        concurrency: int,
    ) -> None:
        self.name, self.digest = name, classifier.digest[:12]
        self._classifier, self._order = classifier, label_places(labels, classifier.task.labels, name)
        self._workers = WorkerPool(max(1, limits.workers // 2), metrics.fallback.queue_size)
        own = replace(limits, max_concurrent_requests=concurrency * limits.max_client_batch_size)
        self._engine = Engine(classifier, own, metrics, self._workers, name)

    async def ask(self, texts: Sequence[Text], direction: Direction, timeout_s: float) -> SecondAnswer:
        """Classify n texts or pairs."""
        try:
            result = await self._engine.predict(texts, direction=direction, timeout_ms=max(1, int(1000 * timeout_s)))
        except ServeError as error:
            if error.error_type == "Timeout":
                raise TimeoutError from None
            outcome: Outcome = "busy" if error.error_type == "Overloaded" else "error"
            raise NoAnswer(error.message, outcome, faulty=error.error_type == "Backend") from None
        return SecondAnswer.of(self._classifier, result.logits, self._order)

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
