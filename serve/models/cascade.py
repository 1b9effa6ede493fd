"""The cascade: what a model is unsure of goes on to a fallback, and comes back within the request's deadline.

The fallback never makes a request fail. Where it is late, down, busy or asked its share already, or answers what is no
answer, the model's own answer stands, and counts as unsure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serve.engine.engine import Engine, EngineResult
from serve.engine.tokenization import Text
from serve.log_format import server_log
from serve.metrics import FallbackMetrics, Outcome
from serve.models.breaker import Breaker
from toolkit.data.tokenization import Direction
from toolkit.inference.cascade import SecondAnswer, merged

ANSWER_S = 0.01  # of a request's time, kept for its answer


class NoAnswer(Exception):  # noqa: N818
    """A fallback does not answer.

    Args:
        problem: in words.
        outcome: of the request.
        faulty: the fallback is to blame, not the inputs or the load.
    """

    def __init__(self, problem: str, outcome: Outcome = "error", *, faulty: bool = True) -> None:
        super().__init__(problem)
        self.outcome, self.faulty = outcome, faulty


class Fallback(Protocol):
    """A second model."""

    @property
    def name(self) -> str:
        """Its name in headers and metrics."""
        ...

    @property
    def digest(self) -> str | None:
        """The start of its bundle's digest; None where it has no bundle."""
        ...

    async def ask(self, texts: Sequence[Text], direction: Direction, timeout_s: float) -> SecondAnswer:
        """Classify n texts or pairs; what takes longer than `timeout_s` is cancelled.

        Raises:
            NoAnswer: it does not answer; any other exception means the same.
        """
        ...

    async def close(self) -> None:
        """Finish accepted requests and give everything back."""
        ...


@dataclass(frozen=True)
class CascadeResult(EngineResult):
    """The answer to a request of which some inputs were for the fallback.

    Attributes:
        rows: [m] numbers of these inputs; `logits` are the first model's, theirs included.
        outcome: what became of them.
        fallback: whom they were for.
        second: the fallback's answer to them; None where the first model's stands.
    """

    rows: np.ndarray
    outcome: Outcome
    fallback: Fallback
    second: SecondAnswer | None

    def merged(self, scores: np.ndarray, *, raw: bool) -> np.ndarray:
        """Put the fallback's scores, or its logits, into the first model's [n, C]."""
        second = self.second
        return merged(scores, self.rows, None if second is None else second.logits if raw else second.scores)

    @property
    def unsure(self) -> np.ndarray:
        """Whether each answer is unsure, bool [n]: of the first model's unsure ones those that the fallback leaves."""
        unsure = np.zeros(len(self.logits), dtype=bool)
        unsure[self.rows] = True if self.second is None else self.second.unsure
        return unsure

    def answered_by(self, name: str, digest: str) -> list[tuple[bytes, bytes]]:
        """Make the headers of an answer by the model of that name and by its fallback, and of the outcome.

        Where both answered, their names stand with the number of their inputs, as in `int8=30, teacher=2`.
        """
        outcome = (b"x-fallback", self.outcome.encode())
        seconds = 0 if self.second is None else len(self.rows)
        counts = [(name, digest, len(self.logits) - seconds), (self.fallback.name, self.fallback.digest, seconds)]
        own = [entry for entry in counts if entry[2]]
        names = own[0][0] if len(own) == 1 else ", ".join(f"{model}={count}" for model, _, count in own)
        digests = ", ".join(digest for _, digest, _ in own if digest)
        return [
            (b"x-model", names.encode()), *([(b"x-model-digest", digests.encode())] if digests else []), outcome,
        ]  # fmt: skip


class Share:
    """Holds a fallback to a share of all inputs: of any n in a row it gets at most share * n + burst.

    Args:
        share: above 0, at most 1, which is no bound.
        burst: inputs that may go at once.
    """

    def __init__(self, share: float, burst: int) -> None:
        self._share, self._most, self._left = share, float(burst), float(burst)

    def add(self, inputs: int) -> None:
        """Count inputs of all requests."""
        self._left = min(self._most, self._left + self._share * inputs)

    def take(self, inputs: int) -> bool:
        """Count inputs for the fallback, or return False where they are more than it may get now."""
        if self._share < 1 and inputs > self._left:
            return False
        self._left -= inputs
        return True


class Cascade:
    """A fallback behind a model, with what keeps it from harm and from doing harm.

    Args:
        fallback: the second model.
        timeout_s: seconds that its answer may take.
        concurrency: requests to it at once.
        share: of all inputs, how many it may get.
        metrics: what is counted.

    Attributes:
        breaker: leaves it alone after failures in a row.
        fallback, timeout_s, share: as they were given.
    """

    def __init__(
        self, fallback: Fallback, *, timeout_s: float, concurrency: int, share: Share, metrics: FallbackMetrics
    ) -> None:
        self.fallback, self.breaker, self.timeout_s, self._concurrency = fallback, Breaker(), timeout_s, concurrency
        self.share, self._metrics, self._in_flight = share, metrics, 0

    @property
    def busy(self) -> bool:
        """It answers as many requests as it may at once."""
        return self._in_flight >= self._concurrency

    async def predict(
        self, engine: Engine, doubts: Callable[[EngineResult], np.ndarray], texts: Sequence[Text], *, truncate: bool,
        direction: Direction, timeout_ms: int | None,
    ) -> EngineResult:  # fmt: skip
        """Classify by the first model, and by the fallback what it is unsure of.

        Args:
            engine: of the first model.
            doubts: tells of its result which inputs it is unsure of, bool [n].
            texts, truncate, direction, timeout_ms: as `Engine.predict` has them.

        Raises:
            ServeError: of the first model.
        """
        deadline = time.perf_counter() + (timeout_ms or engine.limits.timeout_ms) / 1000
        result = await engine.predict(texts, truncate=truncate, direction=direction, timeout_ms=timeout_ms)
        self.share.add(len(texts))
        rows = np.flatnonzero(doubts(result))
        if not len(rows):
            return result
        timeout_s = min(self.timeout_s, deadline - ANSWER_S - time.perf_counter())
        outcome, second = await self._answer([texts[row] for row in rows.tolist()], direction, timeout_s)
        self._metrics.requests[outcome].inc()
        self._metrics.inputs[outcome].inc(len(rows))
        return CascadeResult(**vars(result), rows=rows, outcome=outcome, fallback=self.fallback, second=second)

    async def _answer(
        self, texts: Sequence[Text], direction: Direction, timeout_s: float
    ) -> tuple[Outcome, SecondAnswer | None]:
        if self.busy:
            return "busy", None
        if not self.breaker.admits():
            return "open", None
        if not self.share.take(len(texts)):
            return "share", None
        return await self._ask(texts, direction, timeout_s)

    async def _ask(
        self, texts: Sequence[Text], direction: Direction, timeout_s: float
    ) -> tuple[Outcome, SecondAnswer | None]:
        started, succeeded, problem = time.perf_counter(), None, ""
        self.breaker.begin()
        self._count(1)
        try:
            async with asyncio.timeout(timeout_s):
                second = await self.fallback.ask(texts, direction, timeout_s)
            succeeded = True
            self._metrics.duration.observe(time.perf_counter() - started)
            return "answered", second
        except TimeoutError:
            # a client that gives less time than the fallback has must not keep it from all others
            succeeded = None if timeout_s < self.timeout_s else False
            problem = f"no answer within {1000 * timeout_s:.0f} ms"
            return "timeout", None
        except NoAnswer as error:
            succeeded, problem = False if error.faulty else None, str(error)
            return error.outcome, None
        except Exception as error:  # of any kind: the first model's answer stands
            succeeded, problem = False, f"{type(error).__name__}: {error}"
            return "error", None
        finally:
            self._count(-1)
            self._end(succeeded, problem)

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._metrics.in_flight.set(self._in_flight)

    def _end(self, succeeded: bool | None, problem: str) -> None:
        """End a try; the log tells when the breaker opens and when it closes, not of every request between."""
        before = self.breaker.open
        self.breaker.end(succeeded)
        if self.breaker.open != before:
            state = f"is left alone for a while: {problem}" if self.breaker.open else "answers again"
            server_log.warning("the fallback %s %s", self.fallback.name, state)
            self._metrics.open.set(self.breaker.open)

    async def close(self) -> None:
        """Close the fallback."""
        await self.fallback.close()
