"""Tokenization of requests: short ones in the event loop, long ones on a thread, so that the loop is never held long.

A trip to a thread and back costs more than the tokens of a short text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from serve.engine.latency_model import LatencyModel
from serve.exceptions import ServeError
from toolkit.data.tokenization import Direction, TextEncoder
from toolkit.errors import ToolkitError

INLINE_CHARACTERS = 1000  # of a request, some 200 words: a third of a millisecond
Text = tuple[str, str | None]  # a text and, for a pair, the second one


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of an input.

    Attributes:
        ids, type_ids: [L] int64.
        cut: the input had more tokens than the model takes.
    """

    ids: np.ndarray
    type_ids: np.ndarray
    cut: bool


@dataclass
class Backlog:
    """Seconds of tokenization that wait or run on the thread of all models, as estimated."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Tokenization:
    """The tokenization of one model's requests.

    Args:
        encoder: the model's own.
        thread: runs long requests, one at a time; other models may share it.
        backlog: the work of this thread.
    """

    encoder: TextEncoder
    thread: Executor
    backlog: Backlog = field(default_factory=Backlog)
    latency: LatencyModel = field(default_factory=LatencyModel)  # of a request by its characters

    def expected_s(self, texts: Sequence[Text]) -> float:
        """Estimate the seconds until a request is tokenized, those before it included; 0 for one that is done at once.

        A thread without work refuses nothing, so that a wrong estimate is measured again.
        """
        if not self.backlog.seconds or (characters := _characters(texts)) <= INLINE_CHARACTERS:
            return 0.0
        return self.backlog.seconds + self.latency.seconds(characters)

    async def encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        """Tokenize each input of a request.

        Raises:
            ServeError: Tokenizer when it fails; Validation for an input that is too long when not truncating.
        """
        characters = _characters(texts)
        if characters <= INLINE_CHARACTERS and direction == "right":  # the first "left" copies the tokenizer
            return self._encode(texts, truncate, direction)
        loop, expected = asyncio.get_running_loop(), self.latency.seconds(characters)
        self.backlog.seconds += expected
        try:
            return await loop.run_in_executor(self.thread, self._timed, texts, truncate, direction)
        finally:
            self.backlog.seconds = max(0.0, self.backlog.seconds - expected)

    def _timed(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        started = time.perf_counter()
        try:
            return self._encode(texts, truncate, direction)
        finally:  # what is refused takes its time too
            self.latency.observe(_characters(texts), time.perf_counter() - started)

    def _encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        by_row: dict[int, Tokens] = {}
        try:
            for paired in {pair is not None for _, pair in texts}:  # the tokenizer takes texts or pairs, never both
                rows = [row for row, (_, pair) in enumerate(texts) if (pair is not None) == paired]
                pairs = [texts[row][1] or "" for row in rows] if paired else None
                encoded = self.encoder.encode([texts[row][0] for row in rows], pairs, direction)
                cut = map(bool, encoded.truncated)
                by_row.update(zip(rows, map(Tokens, encoded.ids, encoded.type_ids, cut), strict=True))
        except ToolkitError as error:
            raise ServeError("Validation", f"{error.problem}: expected {error.expected}") from error
        except BaseException as error:  # the library raises a bare Exception, and for a panic in Rust not even that
            raise ServeError("Tokenizer", f"the tokenizer failed: {error}") from error
        if not truncate:
            self._check_lengths(texts, by_row)
        return [by_row[row] for row in range(len(texts))]

    def _check_lengths(self, texts: Sequence[Text], by_row: dict[int, Tokens]) -> None:
        too_long = next((row for row in range(len(texts)) if by_row[row].cut), None)
        if too_long is None:
            return
        text = texts[too_long]
        counted = _characters([text]) <= INLINE_CHARACTERS  # to count the tokens of 2 MB takes seconds
        more = f"{self.encoder.count(*text)} tokens, more than" if counted else "more tokens than"
        raise ServeError(
            "Validation",
            f"an input has {more} the {self.encoder.max_length} that the model takes: shorten it, or leave `truncate` "
            "out to have it cut",
        )


def _characters(texts: Sequence[Text]) -> int:
    return sum(len(text) + len(pair or "") for text, pair in texts)
