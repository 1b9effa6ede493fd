"""Words that a masked language model would put in a word's place, for many masked positions in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import models

from toolkit.augmentation.masked_lm import TIE_TOLERANCE, masked_logits, restrict_to_words
from toolkit.augmentation.words import Word, is_word, match_case
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source

SPARE = 8  # more pieces than asked for: the word itself and its other casings fall out
STARTS = ("Ġ", "▁")  # how pieces that start a word are marked, by byte-level BPE and by SentencePiece
Place = tuple[int, int]  # a word's number in its text, and its token's in the encoded pair
Masked = tuple[int, list[Place]]  # one input: a text, and its words that are masked


class MaskedLMCandidates:
    """A masked language model as a source of replacements (TinyBERT, algorithm 1).

    Args:
        source: an encoder with its masked-language-model head.
        k: candidates for each word.
        batch_size: masked inputs of one forward pass; the candidates do not depend on it.
        together: words masked in one input: 1 as in the paper; more is faster and sees less context.
        precision: fp32, bf16, or auto: bf16 on CPUs that multiply in it.

    Attributes:
        precision: fp32 or bf16, what it came to.

    Raises:
        ToolkitError: a model without that head, or a tokenizer without a mask.
    """

    def __init__(
        self, source: Source, k: int, batch_size: int, together: int = 1, precision: str = "fp32"
    ) -> None:  # fmt: skip
        self.k, self.batch_size, self.together = k, batch_size, together
        self.tokenizer, self.max_length = source.tokenizer, source.max_length
        if self.tokenizer.mask_token_id is None:
            raise ToolkitError(f"--mlm {source.name}: its tokenizer has no mask token", expected="a BERT-like model")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.words = whole_words(self.tokenizer)
        self._pieces = list(self.words)  # W: their numbers in the vocabulary
        self.model, self.precision = restrict_to_words(source.masked_lm(), self._pieces, precision, self.device)

    def candidates(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> dict[tuple[int, int], list[str]]:
        """Replacements by (number of the text, number of the word in it), in the order of the vocabulary.

        Input is [CLS] masked [SEP] original [SEP]. Only words that are one piece of the vocabulary have an entry.
        Words behind the model's last position have none.
        """
        pairs = self.tokenizer(
            list(texts), list(texts), truncation="longest_first", max_length=self.max_length, verbose=False
        ).encodings
        inputs = [
            (text, group) for text in range(len(texts)) for group in self._groups(pairs[text], texts[text], words[text])
        ]
        lengths = np.array([len(pairs[text].ids) for text, _ in inputs], dtype=np.int64)
        found: dict[tuple[int, int], list[str]] = {}
        for rows in _batches(lengths, self.batch_size):
            chosen = [inputs[row] for row in rows]
            for (text, group), best in zip(chosen, self._best(pairs, chosen), strict=True):
                named = [words[text][number].text for number, _ in group]
                picked = [self._pick(*one, name) for one, name in zip(best, named, strict=True)]
                if any(tied for _, tied in picked):  # decided in a batch of its own, so that the batch decides nothing
                    best = self._best(pairs, [(text, group)])[0]
                    picked = [self._pick(*one, name) for one, name in zip(best, named, strict=True)]
                found |= {(text, number): names for (number, _), (names, _) in zip(group, picked, strict=True)}
        return found

    def _groups(self, pair: Any, text: str, words: Sequence[Word]) -> list[list[Place]]:
        """Words that are one token of the first copy, in groups to mask together, each far from its next."""
        spans: dict[tuple[int, int], list[int]] = {}
        for token, (sequence, (start, end)) in enumerate(zip(pair.sequence_ids, pair.offsets, strict=True)):
            if sequence == 0:
                while start < end and text[start].isspace():  # SentencePiece counts the space to the word
                    start += 1
                spans.setdefault((start, end), []).append(token)
        tokens = [spans.get((word.start, word.end), []) for word in words]
        unknown = self.tokenizer.unk_token_id
        places = [(i, one[0]) for i, one in enumerate(tokens) if len(one) == 1 and pair.ids[one[0]] != unknown]
        count = -(-len(places) // self.together)
        return [places[i::count] for i in range(count)]

    @torch.inference_mode()
    def _best(self, pairs: Any, inputs: Sequence[Masked]) -> list[list[tuple[list[float], list[int]]]]:
        """The best whole words at each masked place of inputs of one length: logits and ids, best first."""
        ids = torch.tensor([pairs[text].ids for text, _ in inputs])
        types = torch.tensor([pairs[text].type_ids for text, _ in inputs])
        masked = torch.tensor([[row, token] for row, (_, group) in enumerate(inputs) for _, token in group])
        ids[masked[:, 0], masked[:, 1]] = self.tokenizer.mask_token_id
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        logits = masked_logits(self.model, batch, masked.to(self.device))  # P, W
        values, best = logits.topk(min(self.k + SPARE, len(self.words)))
        pieces = [[self._pieces[number] for number in row] for row in best.tolist()]
        found = iter(zip(values.tolist(), pieces, strict=True))
        return [[next(found) for _ in group] for _, group in inputs]

    def _pick(self, values: list[float], ids: list[int], word: str) -> tuple[list[str], bool]:
        """The k best that are another word, and whether the k-th is too close to the next to tell them apart."""
        kept: dict[str, tuple[int, float]] = {}
        for value, piece in zip(values, ids, strict=True):
            name = match_case(self.words[piece], word)
            if name.casefold() == word.casefold() or name in kept:
                continue
            if len(kept) == self.k:
                last = min(v for _, v in kept.values())
                return _by_number(kept), last - value < TIE_TOLERANCE * max(1.0, abs(last))
            kept[name] = (piece, value)
        return _by_number(kept), False


def _batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Row numbers in batches of one length, longest first: no padding, which would cost time and change sums."""
    for length in np.unique(lengths)[::-1]:
        rows = np.flatnonzero(lengths == length)
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _by_number(kept: dict[str, tuple[int, float]]) -> list[str]:
    return sorted(kept, key=lambda name: kept[name][0])


def whole_words(tokenizer: Any) -> dict[int, str]:
    """Pieces that are words by themselves, by id: no continuation, no special token, letters only."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    model = tokenizer.backend_tokenizer.model
    if isinstance(model, models.WordPiece):
        prefix = model.continuing_subword_prefix
        named = {i: piece for piece, i in vocabulary.items() if not piece.startswith(prefix)}
    else:
        starting = {i: piece for piece, i in vocabulary.items() if piece.startswith(STARTS)}
        named = {i: tokenizer.convert_tokens_to_string([piece]).strip(" ▁") for i, piece in starting.items()}
    return {i: named[i] for i in sorted(named) if i not in special and is_word(named[i])}
