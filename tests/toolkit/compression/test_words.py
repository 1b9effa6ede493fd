"""How word embeddings are stored: by hand, against every other way, and what the text of a search lets fall away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.command_line import refused, toolkit
from tests.support.data import write_csv
from toolkit.bundle.format import open_bundle
from toolkit.compression.prices import number_bytes
from toolkit.compression.words import SPARE, Vocabulary, Words, choose_words
from toolkit.config import CompressConfig
from toolkit.data.vocabulary import select_pieces
from toolkit.models.loading import Source
from toolkit.models.student import Shape

SHAPE = Shape(1, 312, 1200, 12)
CONFIG = {"vocab_size": 30_000, "max_position_embeddings": 512, "type_vocab_size": 2}
VOCABULARY = Vocabulary(needed=20_000, fewest=15_000, positions=64)


def size_mb(words: Words) -> float:
    return number_bytes(words.config(CONFIG, VOCABULARY), SHAPE, words.bits) / 1e6


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (None, Words(8)),
        (size_mb(Words(8)), Words(8)),
        (size_mb(Words(8)) - 1e-6, Words(4)),
        (size_mb(Words(4)) - 1e-6, Words(2)),  # 8 bits and the text's pieces would fit too, and lose more
        (size_mb(Words(2)) - 1e-6, Words(2, 20_000)),
        (size_mb(Words(2, 20_000)) + SPARE - 1e-6, Words(2, 19_999, bounded=True)),
        (size_mb(Words(2, 15_000)) + SPARE, Words(2, 15_000, bounded=True)),
        (0.0, Words(2, 15_000, bounded=True)),  # what is nearest
    ],
)
def test_bits_go_before_pieces_and_the_most_pieces_that_fit_are_kept(limit: float | None, words: Words) -> None:
    assert choose_words(SHAPE, VOCABULARY, size_mb, limit) == words


def test_of_bits_with_which_all_needed_pieces_fit_the_most_are_taken() -> None:
    few = Vocabulary(needed=15_000, fewest=12_000, positions=64)
    assert size_mb(Words(4, 15_000)) + SPARE < size_mb(Words(2)) - 1e-6 < size_mb(Words(8, 15_000))
    assert choose_words(SHAPE, few, size_mb, size_mb(Words(2)) - 1e-6) == Words(4, 15_000)


@given(limit=st.floats(1, 12), fewest=st.integers(100, 3_000), more=st.integers(0, 27_000))
def test_what_is_chosen_fits_where_anything_does_and_a_whole_vocabulary_is_never_cut_unasked(
    limit: float, fewest: int, more: int
) -> None:
    vocabulary = Vocabulary(fewest + more, fewest, 64)
    words = choose_words(SHAPE, vocabulary, size_mb, limit)
    smallest = min(size_mb(Words(bits, pieces)) for bits in (8, 4, 2) for pieces in (None, fewest))
    assert size_mb(words) <= max(limit, smallest)
    assert choose_words(SHAPE, None, size_mb, limit).pieces is None
    assert (words.pieces is None) >= any(size_mb(Words(bits)) <= limit for bits in (8, 4, 2))


def test_train_rows_and_text_decide_what_may_fall_away(tiny_teacher: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [("a good film", 1), ("a bad plot", 0)] * 60)
    (tmp_path / "more.txt").write_text("a good film\n" * 99 + "dull\n")
    files = (str(tmp_path / "more.txt"),)
    config = CompressConfig("t", "auto", "o", data=str(tmp_path), max_size_mb=1.0, trim_vocabulary=files)
    source, task = Source(str(tiny_teacher), tmp_path / "work"), replace(open_bundle(tiny_teacher).task, max_length=16)
    vocabulary = Vocabulary.read(config, task, source, source.config)
    alone = len(select_pieces(tiny_teacher).ids)
    # "dull" is one of 498 pieces of the file, which are a half of the text: it may fall away
    assert vocabulary == Vocabulary(needed=alone + 5, fewest=alone + 4, positions=16)
    assert Vocabulary.read(replace(config, trim_vocabulary=()), task, source, source.config) is None


def test_text_to_trim_by_without_a_size_is_refused() -> None:
    command = ("compress", "teacher", "--task", "auto", "--data", "d", "--max-latency-ms", "50", "--out", "o")
    message = refused(toolkit(*command, "--trim-vocabulary", "more.txt"))
    assert "--trim-vocabulary without --max-size-mb" in message
