"""Inputs to token ids: short ones at once, long ones on a thread, so that the event loop never stands still for long.

A trip to a thread and back costs more than the tokens of a short text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from serve.exceptions import ServeError
from toolkit.data.tokenization import Direction, TextEncoder

AT_ONCE = 1000  # characters of a request, some 200 words: a third of a millisecond
Text = tuple[str, str | None]  # a text and, for a pair, the second one


@dataclass(frozen=True, eq=False)
class Tokens:
    """One input: ids and type_ids [L] int64, and whether it was cut."""

    ids: np.ndarray
    type_ids: np.ndarray
    cut: bool


@dataclass(frozen=True)
class Tokenization:
    """Tokenizes for one model.

    Args:
        encoder: the model's.
        threads: for what is long, perhaps shared with other models.
    """

    encoder: TextEncoder
    threads: Executor

    async def encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        """Tokens of each input of a request.

        Raises:
            ServeError: Tokenizer when it fails; Validation for an input that is too long when not truncating.
        """
        short = sum(len(text) + len(pair or "") for text, pair in texts) <= AT_ONCE
        if short and direction == "right":  # the first "left" loads a tokenizer of its own
            return self._encode(texts, truncate, direction)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self._encode, texts, truncate, direction)

    def _encode(self, texts: Sequence[Text], truncate: bool, direction: Direction) -> list[Tokens]:
        found: dict[int, Tokens] = {}
        try:
            for paired in {pair is not None for _, pair in texts}:  # told to the tokenizer apart
                rows = [row for row, (_, pair) in enumerate(texts) if (pair is not None) == paired]
                pairs = [texts[row][1] or "" for row in rows] if paired else None
                encoded = self.encoder.encode([texts[row][0] for row in rows], pairs, direction)
                each = zip(encoded.ids, encoded.type_ids, map(bool, encoded.truncated), strict=True)
                found.update(zip(rows, (Tokens(*one) for one in each), strict=True))
        except BaseException as error:  # a bare Exception, and for a panic in Rust not even that
            raise ServeError("Tokenizer", f"the tokenizer failed: {error}") from error
        if not truncate:
            self._check_lengths(texts, found)
        return [found[row] for row in range(len(texts))]

    def _check_lengths(self, texts: Sequence[Text], found: dict[int, Tokens]) -> None:
        too_long = next((row for row in range(len(texts)) if found[row].cut), None)
        if too_long is not None:
            raise ServeError(
                "Validation",
                f"an input has {self.encoder.count(*texts[too_long])} tokens, more than the {self.encoder.max_length} "
                "that the model takes: shorten it, or leave `truncate` out to have it cut",
            )
