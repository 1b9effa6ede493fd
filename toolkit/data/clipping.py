"""The part of a long text that decides its first or last tokens, so that the rest need not be tokenized.

Tokenizers split a text into words and each word into tokens. A cut changes the word that it goes through, and nothing
far from it. So a part of the text is enough when the tokens that are needed lie in other words than the one at the cut,
or, in a text without words, thousands of characters away from it.

BERT's tokenizers read a word of more than 100 characters as one unknown token, and any spaces between words as none.
Such runs are shortened where the text is long. What is left are texts of hundreds of thousands of characters in a few
words, which are refused.
"""

from __future__ import annotations

import re
from typing import Literal

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from toolkit.errors import ToolkitError

Direction = Literal["right", "left"]
PART = 2048  # characters of the first part that is tried; shorter texts are never clipped
CHARACTERS_PER_TOKEN = 16
LONGEST_PART = 262_144  # characters that are tokenized at most
SETTLED, SETTLED_IN_A_WORD = 64, 4096  # characters between the cut and a token that it does not change
COUNTED_TOGETHER = 65_536  # characters that `count_tokens` tokenizes at a time, so that memory is bounded


def clip(tokenizer: Tokenizer, text: str, tokens: int, direction: Direction) -> str:
    """Cut a text to a part with the same first `tokens` tokens, for "left" the same last ones, and at least one more.

    Args:
        tokenizer: splits what it truncates into overflowing pieces, from the right.
        text: of any length; one that has fewer tokens, or too few settled ones, comes back whole.
        tokens: special ones not counted.
        direction: the side of the text that truncation removes.

    Raises:
        ToolkitError: a text of more than 262,144 characters whose tokens are too long to be told from a part of it.
    """
    size, length, shortened = max(PART, CHARACTERS_PER_TOKEN * tokens), len(text), False
    while size < len(text):
        if direction == "right":
            part = text[:size]
        else:
            start = len(text) - size
            space = text.find(" ", start, start + SETTLED)
            part = text[max(start, space) :]
        if _settled(tokenizer, part, tokens + 1, direction):
            return part
        if not shortened:
            text, shortened = _shorten_runs(tokenizer, text), True
        elif size >= LONGEST_PART:
            raise ToolkitError(
                f"a text of {length:,} characters has at most {tokens} tokens in {size:,} of them",
                expected="words and spaces between them, not one word or space without end",
            )
        else:
            size = max(size, min(4 * size, LONGEST_PART))
    return text


def _shorten_runs(tokenizer: Tokenizer, text: str) -> str:
    """Shorten runs of ASCII letters and digits, and of spaces, where a shorter one has the same tokens.

    A word that holds a run of more characters than the tokenizer takes in a word is one unknown token, whatever else it
    holds. Spaces have no token. An added token, such as <mask>, ends inside the characters that are kept at both ends.
    """
    model, normalizer = tokenizer.model, tokenizer.normalizer
    if not (
        isinstance(model, WordPiece) and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(normalizer, BertNormalizer)
    ):  # fmt: skip
        return text
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    added += [normalizer.normalize_str(content) for content in added]
    if any(re.fullmatch("[A-Za-z0-9]*| *", content) for content in added):
        return text
    kept = 1 + max([model.max_input_chars_per_word, *map(len, added)])
    for characters in (" ", "A-Za-z0-9"):
        if characters == " " and " " * (2 * kept) not in text:
            continue  # the search for runs takes longer
        run = rf"(?<![{characters}])([{characters}]{{{kept}}})[{characters}]+([{characters}]{{{kept}}})"
        text = re.sub(run, r"\1\2", text)
    return text


def count_tokens(tokenizer: Tokenizer, text: str) -> int:
    """Count the tokens of a text, special ones left out; a text of many parts is cut between words where it has any."""
    total = start = 0
    while start < len(text):
        end = start + COUNTED_TOGETHER
        if end < len(text) and (space := text.rfind(" ", start + 1, end)) > 0:
            end = space
        (encoding,) = tokenizer.encode_batch([text[start:end]], add_special_tokens=False)
        total += sum(len(piece) for piece in (encoding, *encoding.overflowing))
        start = end
    return total


def _settled(tokenizer: Tokenizer, part: str, tokens: int, direction: Direction) -> bool:
    """Return whether a part has so many tokens, counted from its whole end, that the cut at the other does not change.

    A token counts as settled in a word of its own 64 characters from the cut: an added token such as <mask>, which the
    cut may go through, is shorter. In the same word it takes thousands of characters.
    """
    (encoding,) = tokenizer.encode_batch([part], add_special_tokens=False)  # `encode` would hold the interpreter
    pieces = (encoding, *encoding.overflowing)
    words = [word for piece in pieces for word in piece.word_ids]
    if len(words) < tokens:
        return False
    spans = [span for piece in pieces for span in piece.offsets]
    if direction == "right":
        distance, same_word = len(part) - spans[tokens - 1][1], words[tokens - 1] == words[-1]
    else:
        distance, same_word = spans[-tokens][0], words[-tokens] == words[0]
    return bool(distance >= (SETTLED_IN_A_WORD if same_word else SETTLED))
