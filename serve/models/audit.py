"""The audit: of what a model is sure of, a sampled share goes to the fallback too, to see whether both agree.

It begins when the answer is sent, and neither delays nor changes one: one text at a time, beside all requests, and what
becomes of it opens and closes no breaker. An audit that cannot be made now is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from prometheus_client import Counter
from starlette.background import BackgroundTask

from serve.engine.engine import EngineResult
from serve.engine.tokenization import Text
from serve.metrics import Audited
from serve.models.cascade import Cascade, CascadeResult, NoAnswer
from toolkit.data.tokenization import Direction

MOST_WAITING, MOST_CHARACTERS = 64, 1_000_000  # of all that wait


@dataclass(frozen=True)
class SureAnswer:
    """An input that the first model is sure of, and the number of its label."""

    text: Text
    direction: Direction
    label: int

    @property
    def characters(self) -> int:
        """Characters of the text, or of both."""
        return len(self.text[0]) + len(self.text[1] or "")


class Audit:
    """Compares the labels of a model and of its fallback.

    Args:
        cascade: the fallback.
        share: of the inputs that the model is sure of.
        counters: of inputs, by outcome.
        random: draws them; a client can foresee nothing of it.
    """

    def __init__(
        self, cascade: Cascade, share: float, counters: Mapping[Audited, Counter], random: Random | None = None
    ) -> None:
        self._cascade, self._share, self._counters = cascade, share, counters
        self._random = random or Random()
        self._waiting: deque[SureAnswer] = deque()
        self._characters, self._closed = 0, False
        self._work: asyncio.Task[None] | None = None

    def draw(self, texts: Sequence[Text], result: EngineResult, direction: Direction) -> BackgroundTask | None:
        """Draw among the inputs of a request that the model is sure of; give what is to be done once it is answered."""
        unsure = set(result.rows.tolist()) if isinstance(result, CascadeResult) else ()
        rows = [row for row in range(len(texts)) if row not in unsure and self._random.random() < self._share]
        if not rows:
            return None
        labels = result.logits[rows].argmax(axis=1).tolist()
        return BackgroundTask(
            self.add, [SureAnswer(texts[row], direction, label) for row, label in zip(rows, labels, strict=True)]
        )

    async def add(self, answers: Sequence[SureAnswer]) -> None:
        """Let answers wait for their turn, or drop them."""
        for answer in answers:
            if self._closed:
                self._counters["drain"].inc()
            elif len(self._waiting) >= MOST_WAITING or self._characters + answer.characters > MOST_CHARACTERS:
                self._counters["full"].inc()
            else:
                self._waiting.append(answer)
                self._characters += answer.characters
        if self._waiting and self._work is None:
            self._work = asyncio.create_task(self._audit_all())

    async def close(self) -> None:
        """Drop what waits and what is under way."""
        self._closed = True
        self._counters["drain"].inc(len(self._waiting))
        self._waiting.clear()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _audit_all(self) -> None:
        try:
            while self._waiting:
                answer = self._waiting.popleft()
                self._characters -= answer.characters
                self._counters[await self._audited(answer)].inc()
        except asyncio.CancelledError:
            self._counters["drain"].inc()
            raise
        finally:
            self._work = None

    async def _audited(self, answer: SureAnswer) -> Audited:
        cascade = self._cascade
        if cascade.breaker.open:
            return "open"
        if cascade.busy:
            return "busy"
        if not cascade.share.take(1):
            return "share"
        try:
            async with asyncio.timeout(cascade.timeout_s):
                second = await cascade.fallback.ask([answer.text], answer.direction, cascade.timeout_s)
        except TimeoutError:
            return "timeout"
        except NoAnswer as error:
            return "busy" if error.outcome == "busy" else "error"
        except Exception:  # of any kind: the answer is out already
            return "error"
        return "agreed" if second.scores[0].argmax() == answer.label else "disagreed"
