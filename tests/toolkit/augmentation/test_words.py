"""Words by Unicode letters: English, Korean, Chinese, accents; what is no word; case carried over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.augmentation.words import Word, eligible_words, is_word, match_case, replace_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a warm, clever film", ["warm", "clever", "film"]),
        ("2001 mp3 4th 3d films!", ["films"]),
        ("it's the film's ending; don't \u2019tis", ["it", "film", "ending", "tis"]),
        ("ca n't wo n't", ["ca", "wo"]),
        ("self-absorbed x_y", ["self", "absorbed", "x", "y"]),
        ("café naïve cafe\u0301", ["café", "naïve", "cafe\u0301"]),
        ("이 영화는 정말 좋다.", ["이", "영화는", "정말", "좋다"]),
        ("这部电影很好。", ["这", "部", "电", "影", "很", "好"]),
        ("हिन्दी फ़िल्म", ["हिन्दी", "फ़िल्म"]),
        ("... 42 !? ", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters(text: str, expected: list[str]) -> None:
    words = eligible_words(text, stopwords={"a", "the"})
    assert [word.text for word in words] == expected
    assert all(text[word.start : word.end] == word.text for word in words)


def test_stopwords_count_in_any_case() -> None:
    assert [word.text for word in eligible_words("The THE the film", {"the"})] == ["film"]


@given(st.text())
def test_words_stand_where_they_say_and_in_order(text: str) -> None:
    words = eligible_words(text)
    assert all(text[word.start : word.end] == word.text and is_word(word.text) for word in words)
    assert all(a.end <= b.start for a, b in pairwise(words))
    assert replace_words(text, [(word, word.text) for word in words]) == text


@pytest.mark.parametrize(
    ("word", "like", "expected"),
    [("good", "Fine", "Good"), ("good", "FINE", "GOOD"), ("good", "fine", "good"), ("Paris", "fine", "Paris"),
     ("good", "X", "Good"), ("영화", "좋다", "영화")],
)  # fmt: skip
def test_case_is_carried_over(word: str, like: str, expected: str) -> None:
    assert match_case(word, like) == expected


def test_replacing_leaves_the_rest_alone() -> None:
    text = "a warm, clever  film"
    assert replace_words(text, [(Word("warm", 2, 6), "cold"), (Word("film", 16, 20), "plot")]) == "a cold, clever  plot"
