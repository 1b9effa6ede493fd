"""Small tokenizers of SentencePiece's and byte-level BPE's kinds, spelled out: a trainer breaks ties at random."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefghijklmnopqrstuvwxyz"
XLMR = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
ALBERT = {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
DEBERTA = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
MODERNBERT = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}


def sentence_pieces(words: Sequence[str], special: dict[str, str] = XLMR) -> Tokenizer:
    """A Unigram model: whole words cost less than their letters; the mask stands behind all pieces, as XLM-R's does."""
    first = [name for role, name in special.items() if role != "mask"]
    pieces = [(name, 0.0) for name in first] + [("\u2581", -4.0)]
    pieces += [(letter, -6.0 - i / 100) for i, letter in enumerate(LETTERS)]
    pieces += [(f"\u2581{word}", -5.0 - i / 100) for i, word in enumerate(words)]
    built = Tokenizer(models.Unigram(pieces, unk_id=first.index(special["unk"]), byte_fallback=False))
    built.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.decoder = decoders.Metaspace()
    return _finished(built, special)


def byte_pairs(words: Sequence[str], special: dict[str, str] = XLMR) -> Tokenizer:
    """A byte-level BPE whose merges build each word from its start, letter by letter, with and without a space."""
    first = [name for role, name in special.items() if role != "mask"]
    vocabulary = dict.fromkeys([*first, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges: dict[tuple[str, str], None] = {}
    for word in [f"{space}{word}" for word in words for space in ("\u0120", "")]:
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = vocabulary[word[: end + 1]] = None
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    built = Tokenizer(models.BPE(ids, list(merges)))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return _finished(built, special)


def _finished(built: Tokenizer, special: dict[str, str]) -> Tokenizer:
    built.add_special_tokens(list(special.values()))
    cls, sep = special["cls"], special["sep"]
    built.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}",
        special_tokens=[(name, built.token_to_id(name)) for name in (cls, sep)],
    )  # fmt: skip
    return built
