"""Shares of texts and tokens that are cut, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.data.tokenization import TextEncoder
from toolkit.data.truncation import Truncation, measure_truncation, say_truncation


def test_shares_are_those_counted_by_hand(tiny_student: Path) -> None:
    encoder = TextEncoder(tiny_student, 6)  # four words between [CLS] and [SEP]
    texts = ["good", "good bad good bad", "good bad good bad good", "good " * 14]
    cut = measure_truncation(encoder, encoder.encode(texts), texts, None)
    assert cut == Truncation(texts=4, cut_texts=2, tokens=3 + 6 + 7 + 16, cut_tokens=1 + 10, max_length=6)
    assert (cut.text_share, cut.token_share) == (0.5, 11 / 32)


def test_both_texts_of_a_pair_count(tiny_student: Path) -> None:
    encoder = TextEncoder(tiny_student, 7)
    texts, pairs = ["good bad good", "good"], ["bad bad bad", "bad"]  # 3 + 3 + 3 special, and 1 + 1 + 3
    cut = measure_truncation(encoder, encoder.encode(texts, pairs), texts, pairs)
    assert cut == Truncation(texts=2, cut_texts=1, tokens=14, cut_tokens=2, max_length=7)


def test_nothing_is_said_where_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    say_truncation("dev", Truncation(8, 0, 100, 0, 16))
    assert capsys.readouterr().out == ""
    say_truncation("dev", Truncation(8, 2, 100, 30, 16))
    text = " ".join(capsys.readouterr().out.split())
    assert text == "dev: 25.0 % of the texts are longer than 16 tokens and are cut, 30.0 % of all tokens are lost"


def test_an_empty_split_has_no_shares() -> None:
    empty = Truncation(0, 0, 0, 0, 16)
    assert (empty.text_share, empty.token_share) == (0.0, 0.0)
