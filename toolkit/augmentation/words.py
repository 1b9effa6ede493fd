"""Words of a text as runs of Unicode letters, with their positions and their case."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

APOSTROPHES = ("'", "\u2019")


@dataclass(frozen=True)
class Word:
    """A word and its position: text[start:end] of the text that contains it."""

    text: str
    start: int
    end: int


@lru_cache(maxsize=1 << 16)
def _kind(char: str) -> str:
    """Classify a character: L or N extends a run, H is a word by itself (Han, as BERT splits it), "" ends a run."""
    if char.isalpha():
        return "H" if unicodedata.name(char, "").startswith("CJK ") else "L"
    return {"M": "L", "N": "N"}.get(unicodedata.category(char)[0], "")


def is_word(text: str) -> bool:
    """Return True for letters alone, with their combining marks: no digit, no punctuation."""
    return text[:1].isalpha() and (text.isalpha() or all(_kind(char) in ("L", "H") for char in text))


def eligible_words(text: str, stopwords: Collection[str] = ()) -> list[Word]:
    """Find the words that may be replaced: letters only, no stopword, no half of a contraction (the t of don't)."""
    return [
        word
        for word in _runs(text)
        if is_word(word.text)
        and word.text.lower() not in stopwords
        and not (word.start > 0 and text[word.start - 1] in APOSTROPHES and len(word.text) < 3)  # 's, 't, 're
        and text[word.end : word.end + 2].lower() not in [mark + "t" for mark in APOSTROPHES]
    ]


def _runs(text: str) -> Iterator[Word]:
    """Yield runs of letters, marks and digits, in order; a Han character is a run of its own."""
    start = 0
    for kind, group in groupby(text, _run_kind):
        run = "".join(group)
        if kind == "H":
            yield from (Word(char, start + i, start + i + 1) for i, char in enumerate(run))
        elif kind:
            yield Word(run, start, start + len(run))
        start += len(run)


def _run_kind(char: str) -> str:
    return {"N": "L"}.get(kind := _kind(char), kind)  # a digit stays with its letters, so that mp3 is no word


def match_case(word: str, like: str) -> str:
    """Give `word` the capitals, or the initial capital, of `like`."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def replace_words(text: str, words: Collection[tuple[Word, str]]) -> str:
    """Replace words of a text, given in their order, each by its replacement."""
    parts, end = [], 0
    for word, replacement in words:
        parts += [text[end : word.start], replacement]
        end = word.end
    return "".join([*parts, text[end:]])
