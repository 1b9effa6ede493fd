"""Replacements that a masked language model predicts at a word's place, many masked words in one forward pass."""

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

SPARE = 8  # pieces beyond k: the word itself and its other casings are dropped
WORD_STARTS = ("Ġ", "▁")  # marks of pieces that start a word, in byte-level BPE and in SentencePiece
Place = tuple[int, int]  # number of a word in its text, number of its token in the encoded pair
MaskedInput = tuple[int, list[Place]]  # number of a text, and its masked words


class MaskedLMCandidates:
    """A masked language model as a source of candidates (TinyBERT, algorithm 1).

    Args:
        source: an encoder with its masked-language-model head.
        k: candidates for each word.
        batch_size: masked inputs of a forward pass; the candidates do not depend on it.
        masks_per_input: words masked in an input: 1 as in the paper; more is faster and sees less context.
        precision: fp32, bf16, or auto: bf16 on CPUs that multiply in it.

    Attributes:
        precision: fp32 or bf16, as resolved for this device.

    Raises:
        ToolkitError: a model without that head, or a tokenizer without a mask.
    """

    def __init__(
        self, source: Source, k: int, batch_size: int, masks_per_input: int = 1, precision: str = "fp32"
    ) -> None:
        self.k, self.batch_size, self.masks_per_input = k, batch_size, masks_per_input
        self.tokenizer, self.max_length = source.tokenizer, source.max_length
        if self.tokenizer.mask_token_id is None:
            raise ToolkitError(f"--mlm {source.name}: its tokenizer has no mask token", expected="a BERT-like model")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.words = whole_words(self.tokenizer)
        self._pieces = list(self.words)  # W ids
        self.model, self.precision = restrict_to_words(source.masked_lm(), self._pieces, precision, self.device)

    def candidates(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> dict[tuple[int, int], list[str]]:
        """Find candidates by (number of the text, number of the word in it), in the order of the vocabulary.

        The input is [CLS] masked [SEP] original [SEP]. Words of several pieces, and words behind the model's last
        position, have no entry.
        """
        pairs = self.tokenizer(
            list(texts), list(texts), truncation="longest_first", max_length=self.max_length, verbose=False
        ).encodings
        inputs = [
            (text, group) for text in range(len(texts)) for group in self._groups(pairs[text], texts[text], words[text])
        ]
        lengths = np.array([len(pairs[text].ids) for text, _ in inputs], dtype=np.int64)
        candidates: dict[tuple[int, int], list[str]] = {}
        for rows in _batches(lengths, self.batch_size):
            batch = [inputs[row] for row in rows]
            for (text, group), best in zip(batch, self._best(pairs, batch), strict=True):
                originals = [words[text][number].text for number, _ in group]
                picks = self._picks(best, originals)
                if any(tied for _, tied in picks):  # computed again alone, so that the batch does not decide
                    picks = self._picks(self._best(pairs, [(text, group)])[0], originals)
                candidates |= {(text, number): names for (number, _), (names, _) in zip(group, picks, strict=True)}
        return candidates

    def _groups(self, pair: Any, text: str, words: Sequence[Word]) -> list[list[Place]]:
        """Group the words that are one token of the first copy; words of a group are masked together, far apart."""
        spans: dict[tuple[int, int], list[int]] = {}
        for token, (sequence, (start, end)) in enumerate(zip(pair.sequence_ids, pair.offsets, strict=True)):
            if sequence == 0:
                while start < end and text[start].isspace():  # SentencePiece counts the space as part of the word
                    start += 1
                spans.setdefault((start, end), []).append(token)
        unknown = self.tokenizer.unk_token_id
        places = []
        for number, word in enumerate(words):
            tokens = spans.get((word.start, word.end), [])
            if len(tokens) == 1 and pair.ids[tokens[0]] != unknown:
                places.append((number, tokens[0]))
        count = -(-len(places) // self.masks_per_input)
        return [places[i::count] for i in range(count)]

    @torch.inference_mode()
    def _best(self, pairs: Any, inputs: Sequence[MaskedInput]) -> list[list[tuple[list[float], list[int]]]]:
        """Return logits and ids of the best whole words, best first, at each masked place of inputs of one length."""
        ids = torch.tensor([pairs[text].ids for text, _ in inputs])
        types = torch.tensor([pairs[text].type_ids for text, _ in inputs])
        masked = torch.tensor([[row, token] for row, (_, group) in enumerate(inputs) for _, token in group])
        ids[masked[:, 0], masked[:, 1]] = self.tokenizer.mask_token_id
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        logits = masked_logits(self.model, batch, masked.to(self.device))  # P, W
        values, best = logits.topk(min(self.k + SPARE, len(self.words)))
        pieces = [[self._pieces[number] for number in row] for row in best.tolist()]
        predictions = iter(zip(values.tolist(), pieces, strict=True))
        return [[next(predictions) for _ in group] for _, group in inputs]

    def _picks(self, best: list[tuple[list[float], list[int]]], originals: list[str]) -> list[tuple[list[str], bool]]:
        return [self._pick(values, ids, word) for (values, ids), word in zip(best, originals, strict=True)]

    def _pick(self, values: list[float], ids: list[int], word: str) -> tuple[list[str], bool]:
        """Return the k best that are another word; True if the k-th is within TIE_TOLERANCE of the next."""
        picked: dict[str, tuple[int, float]] = {}
        for value, piece in zip(values, ids, strict=True):
            name = match_case(self.words[piece], word)
            if name.casefold() == word.casefold() or name in picked:
                continue
            if len(picked) == self.k:
                last = min(logit for _, logit in picked.values())
                return _in_vocabulary_order(picked), last - value < TIE_TOLERANCE * max(1.0, abs(last))
            picked[name] = (piece, value)
        return _in_vocabulary_order(picked), False


def _batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of one length, longest first: padding would cost time and change sums."""
    for length in np.unique(lengths)[::-1]:
        rows = np.flatnonzero(lengths == length)
        yield from (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))


def _in_vocabulary_order(picked: dict[str, tuple[int, float]]) -> list[str]:
    return sorted(picked, key=lambda name: picked[name][0])


def whole_words(tokenizer: Any) -> dict[int, str]:
    """Return the pieces that are whole words, by id: no continuation, no special token, letters only."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    model = tokenizer.backend_tokenizer.model
    if isinstance(model, models.WordPiece):
        prefix = model.continuing_subword_prefix
        texts = {i: piece for piece, i in vocabulary.items() if not piece.startswith(prefix)}
    else:
        starting = {i: piece for piece, i in vocabulary.items() if piece.startswith(WORD_STARTS)}
        texts = {i: tokenizer.convert_tokens_to_string([piece]).strip(" ▁") for i, piece in starting.items()}
    return {i: texts[i] for i in sorted(texts) if i not in special and is_word(texts[i])}
