"""Token ids of texts and their padded batches; training and serving share this code, which needs `tokenizers` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from tokenizers import Tokenizer

from toolkit.data.clipping import PART, clip, count_tokens
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

    def take(self, rows: Sequence[int] | np.ndarray) -> EncodedTexts:
        """Give the chosen inputs."""
        ids, type_ids = ([column[row] for row in rows] for column in (self.ids, self.type_ids))
        return EncodedTexts(ids, type_ids, self.truncated[np.asarray(rows, dtype=np.int64)], self.pad_id)

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
        files: contents of the two files by name, where they were read before; the directory is then not opened.

    Raises:
        ToolkitError: config.json or tokenizer.json is missing or cannot be read.
    """

    def __init__(self, directory: str | Path, max_length: int, files: Mapping[str, bytes] | None = None) -> None:
        self.directory, self.max_length = Path(directory), max_length
        self.pad_id = self._pad_id(files)
        self._tokenizers = {"right": self._load(files)}

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, direction: Direction = "right"
    ) -> EncodedTexts:
        """Encode n texts, or n pairs of texts, truncated at the end ("right") or at the start ("left").

        Raises:
            ToolkitError: a text that UTF-8 cannot hold, such as half a surrogate pair out of JSON, or one of more than
                262,144 characters in a few words.
        """
        if direction not in self._tokenizers:
            self._tokenizers[direction] = self._truncating(direction)
        try:
            inputs: list[str] | list[tuple[str, str]] = (
                [self._clip(text, direction) for text in texts] if pairs is None
                else [self._clip_pair(text, pair, direction) for text, pair in zip(texts, pairs, strict=True)]
            )  # fmt: skip
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
        special = tokenizer.num_special_tokens_to_add(pair is not None)
        return int(special + sum(count_tokens(tokenizer, part) for part in (text, pair or "")))

    def tokens(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Spell ids as word pieces, for display."""
        return [self._tokenizers["right"].id_to_token(int(i)) or "" for i in ids]

    @property
    def vocabulary_size(self) -> int:
        """Number of word pieces; ids are below it."""
        return int(self._tokenizers["right"].get_vocab_size())

    @cached_property
    def unknown_id(self) -> int | None:
        """The id of pieces that the vocabulary lacks; None where it lacks none, as one of bytes does."""
        tokenizer = self._tokenizers["right"]
        names = (getattr(tokenizer.model, "unk_token", None), "[UNK]", "<unk>")
        return next((id_ for name in names if name and (id_ := tokenizer.token_to_id(name)) is not None), None)

    def _pad_id(self, files: Mapping[str, bytes] | None) -> int:
        path = self.directory / "config.json"
        try:
            content = read_regular(path, MAX_CONFIG_BYTES) if files is None else files[path.name]
            pad_id = json.loads(content).get("pad_token_id") or 0
            if type(pad_id) is not int or not 0 <= pad_id < 2**31:
                raise ValueError("pad_token_id is no token's number")
            return pad_id
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ToolkitError(
                f"{path} is not a model's configuration: {error}",
                expected="the config.json that Hugging Face's save_pretrained writes",
            ) from None

    def _load(self, files: Mapping[str, bytes] | None) -> Tokenizer:
        path = self.directory / "tokenizer.json"
        try:
            content = read_regular(path, MAX_TOKENIZER_BYTES) if files is None else files[path.name]
            tokenizer = Tokenizer.from_buffer(content)
        except ToolkitError:
            raise
        except Exception as error:  # tokenizers raises a bare Exception
            raise ToolkitError(
                f"{path} is not a tokenizer that can be read: {error}",
                expected="the tokenizer.json that Hugging Face's save_pretrained writes",
                fix="save the tokenizer again with AutoTokenizer.from_pretrained(...).save_pretrained(DIR)",
            ) from None
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length, strategy="longest_first", direction="right")
        return tokenizer

    def _truncating(self, direction: Direction) -> Tokenizer:
        """Copy the tokenizer in memory for another direction; the file may have changed since it was verified."""
        tokenizer = Tokenizer.from_str(self._tokenizers["right"].to_str())
        tokenizer.enable_truncation(self.max_length, strategy="longest_first", direction=direction)
        return tokenizer

    def _clip(self, text: str, direction: Direction) -> str:
        if len(text) <= PART:
            return text
        return clip(self._tokenizers["right"], text, self.max_length, direction)

    def _clip_pair(self, text: str, pair: str, direction: Direction) -> tuple[str, str]:
        """Clip both texts of a pair so that the longer one in tokens stays the longer one.

        Truncation gives both the same room; where that is odd the longer text has the last token, or else the second.
        """
        parts = self._clip(text, direction), self._clip(pair, direction)
        if parts == (text, pair):
            return parts
        tokenizer = self._tokenizers["right"]
        first, second = (count_tokens(tokenizer, part) for part in parts)
        if min(first, second) <= self.max_length:
            return parts
        if count_tokens(tokenizer, text) > count_tokens(tokenizer, pair):
            return clip(tokenizer, text, second, direction), parts[1]
        return parts[0], clip(tokenizer, pair, first, direction)
