"""Inputs to token ids, off the event loop; what arrives while the threads are at work goes to one of them together.

A trip to a thread and back costs more than the tokens of a short text. Under load many requests share one; an idle
server takes each at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from serve.schemas import ServeError, Text
from toolkit.text import Direction, TextEncoder

TOGETHER = 64  # inputs after which no further request joins: the first must not wait long for the last


@dataclass(frozen=True, eq=False)
class Tokens:
    """One input: ids and type_ids [L] int64, and whether it was cut."""

    ids: np.ndarray
    type_ids: np.ndarray
    cut: bool


@dataclass(frozen=True, eq=False)
class _Job:
    """One request's inputs, and where their tokens go."""

    texts: Sequence[Text]
    truncate: bool
    direction: Direction
    done: asyncio.Future[list[Tokens]]


@dataclass
class Tokenization:
    """Tokenizes for one model; create and use in one event loop.

    Args:
        encoder: the model's.
        threads: what runs it, perhaps shared with other models.
        most: trips to the threads under way at once.
    """

    encoder: TextEncoder
    threads: Executor
    most: int
    _waiting: list[_Job] = field(default_factory=list)
    _under_way: int = 0

    async def encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        """Tokens of each input.

        Raises:
            ServeError: Tokenizer when it fails; Validation for an input that is too long when not truncating.
        """
        loop = asyncio.get_running_loop()
        job = _Job(texts, truncate, direction, loop.create_future())
        self._waiting.append(job)
        if len(self._waiting) == 1:
            loop.call_soon(self._start)  # after the other requests that this turn of the loop has read
        return await job.done

    def _start(self) -> None:
        while self._under_way < self.most and (jobs := self._next()):
            self._under_way += 1
            run = asyncio.get_running_loop().run_in_executor(self.threads, self._encode, jobs)
            run.add_done_callback(partial(self._finished, jobs))

    def _next(self) -> list[_Job]:
        """The oldest requests that still want an answer, up to TOGETHER inputs."""
        waiting = [job for job in self._waiting if not job.done.done()]
        count, inputs = 0, 0
        while count < len(waiting) and inputs < TOGETHER:
            inputs += len(waiting[count].texts)
            count += 1
        self._waiting = waiting[count:]
        return waiting[:count]

    def _finished(self, jobs: list[_Job], ended: asyncio.Future[list[list[Tokens] | ServeError]]) -> None:
        self._under_way -= 1
        for job, outcome in zip(jobs, ended.result(), strict=True):
            if job.done.done():
                continue
            if isinstance(outcome, ServeError):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)
        self._start()

    def _encode(self, jobs: list[_Job]) -> list[list[Tokens] | ServeError]:
        """Each request's tokens, or what is wrong with it; one bad request must not fail its neighbours."""
        found: dict[tuple[int, int], Tokens] = {}
        kinds = {(job.direction, pair is not None) for job in jobs for _, pair in job.texts}
        try:
            for direction, paired in kinds:  # told to the tokenizer apart
                places = [
                    (number, row)
                    for number, job in enumerate(jobs) if job.direction == direction
                    for row, (_, pair) in enumerate(job.texts) if (pair is not None) == paired
                ]  # fmt: skip
                chosen = [jobs[number].texts[row] for number, row in places]
                pairs = [pair or "" for _, pair in chosen] if paired else None
                encoded = self.encoder.encode([text for text, _ in chosen], pairs, direction)
                each = zip(encoded.ids, encoded.type_ids, map(bool, encoded.truncated), strict=True)
                found.update(zip(places, (Tokens(*one) for one in each), strict=True))
        except BaseException as error:  # a bare Exception, and for a panic in Rust not even that
            if len(jobs) > 1:
                return [self._encode([job])[0] for job in jobs]
            return [ServeError("Tokenizer", f"the tokenizer failed: {error}")]
        each_job = ([found[number, row] for row in range(len(job.texts))] for number, job in enumerate(jobs))
        return [self._checked(job, tokens) for job, tokens in zip(jobs, each_job, strict=True)]

    def _checked(self, job: _Job, tokens: list[Tokens]) -> list[Tokens] | ServeError:
        too_long = next((row for row, one in enumerate(tokens) if one.cut), None)
        if job.truncate or too_long is None:
            return tokens
        return ServeError(
            "Validation",
            f"an input has {self.encoder.count(*job.texts[too_long])} tokens, more than the {self.encoder.max_length} "
            "that the model takes: shorten it, or leave `truncate` out to have it cut",
        )
