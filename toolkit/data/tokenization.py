"""Token ids of texts and their padded batches; training and serving share this code, which needs `tokenizers` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from tokenizers import Tokenizer

from toolkit.errors import ToolkitError
from toolkit.files import read_regular

MAX_CONFIG_BYTES = 4 * 2**20  # config.json with 10,000 labels has a tenth
MAX_TOKENIZER_BYTES = 64 * 2**20  # tokenizer.json with 250,000 pieces has a quarter
Batch = dict[str, np.ndarray]
Direction = Literal["right", "left"]


class TokenizedInputs(Protocol):
    """Rows of token ids, in memory or on disk, that are padded batch by batch."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, [n]."""
        ...

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> Batch:
        """Give the chosen rows, padded to the longest of them or to `length`: three int64 arrays [B, L]."""
        ...


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of n inputs, unpadded.

    Attributes:
        ids: n arrays [L_i], int64, special tokens included.
        type_ids: n arrays [L_i], int64: 0 for the first text, 1 for the second where the tokenizer says so.
        truncated: bool [n], true for inputs longer than max_length.
        pad_id: the padding of `batch`.
    """

    ids: list[np.ndarray]
    type_ids: list[np.ndarray]
    truncated: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each input, [n]."""
        return np.fromiter((len(ids) for ids in self.ids), dtype=np.int64, count=len(self.ids))

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> Batch:
        """Pad the chosen rows to the longest of them, or to `length`: three int64 arrays [B, L]."""
        width = length or max(len(self.ids[row]) for row in rows)
        input_ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        token_type_ids = np.zeros_like(input_ids)
        attention_mask = np.zeros_like(input_ids)
        for i, row in enumerate(rows):
            n = len(self.ids[row])
            input_ids[i, :n], token_type_ids[i, :n], attention_mask[i, :n] = self.ids[row], self.type_ids[row], 1
        return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}


class TextEncoder:
    """The tokenizer of a model directory; its own truncation and padding are switched off.

    Args:
        directory: holds tokenizer.json and config.json (for pad_token_id).
        max_length: the most tokens of an input, special ones included; the longer text of a pair is truncated first.

    Raises:
        ToolkitError: config.json or tokenizer.json is missing or cannot be read.
    """

    def __init__(self, directory: str | Path, max_length: int) -> None:
        self.directory, self.max_length = Path(directory), max_length
        self.pad_id = self._pad_id()
        self._tokenizers = {"right": self._load("right")}

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, direction: Direction = "right"
    ) -> EncodedTexts:
        """Encode n texts, or n pairs of texts, truncated at the end ("right") or at the start ("left").

        Raises:
            ToolkitError: a text that UTF-8 cannot hold, such as half a surrogate pair out of JSON.
        """
        if direction not in self._tokenizers:
            self._tokenizers[direction] = self._load(direction)
        inputs: list[str] | list[tuple[str, str]] = (
            list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        )
        try:
            encodings = self._tokenizers[direction].encode_batch_fast(inputs)
        except TypeError:
            raise ToolkitError("an input is not text that UTF-8 can hold", expected="a string") from None
        return EncodedTexts(
            ids=[np.array(encoding.ids, dtype=np.int64) for encoding in encodings],
            type_ids=[np.array(encoding.type_ids, dtype=np.int64) for encoding in encodings],
            truncated=np.array([bool(encoding.overflowing) for encoding in encodings], dtype=bool),
            pad_id=self.pad_id,
        )

    def count(self, text: str, pair: str | None = None) -> int:
        """Count the tokens of an input before truncation, special ones included."""
        tokenizer = self._tokenizers["right"]
        special = tokenizer.num_special_tokens_to_add(False)
        total = tokenizer.num_special_tokens_to_add(pair is not None)
        for part in (text,) if pair is None else (text, pair):
            encoding = tokenizer.encode(part)
            total += sum(len(piece.ids) - special for piece in (encoding, *encoding.overflowing))
        return int(total)

    def tokens(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Spell ids as word pieces, for display."""
        return [self._tokenizers["right"].id_to_token(int(i)) or "" for i in ids]

    @property
    def vocabulary_size(self) -> int:
        """Number of word pieces; ids are below it."""
        return int(self._tokenizers["right"].get_vocab_size())

    def _pad_id(self) -> int:
        path = self.directory / "config.json"
        try:
            return int(json.loads(read_regular(path, MAX_CONFIG_BYTES)).get("pad_token_id") or 0)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ToolkitError(
                f"{path} is not a model's configuration: {error}",
                expected="the config.json that Hugging Face's save_pretrained writes",
            ) from None

    def _load(self, direction: Direction) -> Tokenizer:
        path = self.directory / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_buffer(read_regular(path, MAX_TOKENIZER_BYTES))
        except ToolkitError:
            raise
        except Exception as error:  # tokenizers raises a bare Exception
            raise ToolkitError(
                f"{path} is not a tokenizer that can be read: {error}",
                expected="the tokenizer.json that Hugging Face's save_pretrained writes",
                fix="save the tokenizer again with AutoTokenizer.from_pretrained(...).save_pretrained(DIR)",
            ) from None
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length, strategy="longest_first", direction=direction)
        return tokenizer
