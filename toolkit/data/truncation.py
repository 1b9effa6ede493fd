"""The share of texts and tokens that are cut at the length of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.console import echo
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.reports.table import percent


@dataclass(frozen=True)
class Truncation:
    """Counts of inputs and of their tokens, special ones included, as they are and as they are cut.

    Attributes:
        texts, cut_texts: inputs, and those with more than `max_length` tokens.
        tokens, cut_tokens: of all inputs before truncation, and those that truncation drops.
        max_length: tokens at which inputs are cut.
    """

    texts: int
    cut_texts: int
    tokens: int
    cut_tokens: int
    max_length: int

    @property
    def text_share(self) -> float:
        """Return the fraction of inputs that are cut."""
        return self.cut_texts / max(self.texts, 1)

    @property
    def token_share(self) -> float:
        """Return the fraction of tokens that are dropped."""
        return self.cut_tokens / max(self.tokens, 1)


def measure_truncation(
    encoder: TextEncoder, encoded: EncodedTexts, texts: Sequence[str], pairs: Sequence[str] | None
) -> Truncation:
    """Count what truncation drops; inputs that are cut are tokenized once more, in full.

    Args:
        encoder: the tokenizer that gave `encoded`.
        encoded: n inputs.
        texts, pairs: the same n inputs as text.
    """
    cut = np.flatnonzero(encoded.truncated).tolist()
    whole = sum(encoder.count(texts[i], None if pairs is None else pairs[i]) for i in cut)
    dropped = int(whole - encoded.lengths[cut].sum())
    return Truncation(len(encoded), len(cut), int(encoded.lengths.sum()) + dropped, dropped, encoder.max_length)


def say_truncation(name: str, truncation: Truncation) -> None:
    """Print the shares that are cut of the inputs called `name`; nothing where none is cut."""
    if truncation.cut_texts:
        echo(
            f"{name}: {percent(truncation.text_share)} of the texts are longer than {truncation.max_length} tokens "
            f"and are cut, {percent(truncation.token_share)} of all tokens are lost"
        )
