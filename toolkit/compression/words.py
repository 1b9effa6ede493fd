"""How the word embeddings of a shape are stored: their bits, and where the size needs it fewer word pieces.

Fewer bits lose less than fewer pieces: at equal bytes, 2 bits and all pieces give the answers of a student more often
than 8 bits and a part of them. So the vocabulary is whole while the fewest bits let it fit, and is cut beyond that,
with --trim-vocabulary, to the most pieces that fit.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from export.calibration_data import vocabulary_text
from toolkit.compression.prices import possible_bits
from toolkit.config import CompressConfig, ExportConfig
from toolkit.data.vocabulary import rank_pieces
from toolkit.models.families import counts_positions_from_zero
from toolkit.models.loading import Source
from toolkit.models.student import Shape
from toolkit.models.trimming import check_padding
from toolkit.tasks import Task

SPARE = 0.009  # MB a layer that stay free: a student that is finished under rounding has more nodes
# Fraction of the pieces of the text that may fall apart: of TinyBERT4 on Rotten Tomatoes, in 2 bits, an export that
# loses 0.005 passes the gates of `toolkit export`, and one that loses 0.01 does not.
LOST = 0.005


@dataclass(frozen=True)
class Words:
    """How word embeddings are stored.

    Attributes:
        bits: of each number.
        pieces: word pieces that are kept; None for the whole vocabulary.
        bounded: whether these are fewer than the text needs.
    """

    bits: int
    pieces: int | None = None
    bounded: bool = False

    def __str__(self) -> str:
        return f"{self.bits} bits" + ("" if self.pieces is None else f", {self.pieces:,} pieces")

    def config(self, config: Mapping[str, Any], vocabulary: Vocabulary | None) -> Mapping[str, Any]:
        """Give a student's `config.json` as these words leave it."""
        if self.pieces is None or vocabulary is None:
            return config
        return {**config, "vocab_size": self.pieces, "max_position_embeddings": vocabulary.positions}


@dataclass(frozen=True)
class Vocabulary:
    """What a student's vocabulary may be cut to.

    Attributes:
        needed: word pieces that the train rows and the text of --trim-vocabulary need.
        fewest: word pieces that are enough for all but a fraction LOST of that text; `needed` where no needed one may
            fall away.
        positions: rows of the position table that a trimmed student keeps.
    """

    needed: int
    fewest: int
    positions: int

    @classmethod
    def read(cls, config: CompressConfig, task: Task, reader: Source, student: Any) -> Vocabulary | None:
        """Read the text by which `toolkit export` trims a vocabulary; None without --trim-vocabulary.

        Args:
            config: of the search.
            task: with the length at which a student truncates texts.
            reader: the model whose word pieces the student reads.
            student: a student's Hugging Face configuration.

        Raises:
            ToolkitError: text that cannot be read, or a vocabulary that cannot be trimmed.
        """
        if not config.trim_vocabulary:
            return None
        text = vocabulary_text(task, ExportConfig("", **config.shared_with(ExportConfig)))
        ranked = rank_pieces(reader.tokenizer_dir, *text)
        check_padding(needed := ranked.keep(), student)
        positions = int(student.max_position_embeddings)
        if counts_positions_from_zero(student):
            positions = min(positions, task.max_length)
        return cls(len(needed.ids), ranked.fewest(LOST), positions)


def choose_words(
    shape: Shape, vocabulary: Vocabulary | None, size_mb: Callable[[Words], float], limit: float | None
) -> Words:
    """Choose how a shape's word embeddings are stored: what loses least of what is within the limit, else the smallest.

    Args:
        shape: of the encoder.
        vocabulary: what it may be cut to; None keeps it whole.
        size_mb: gives the size of the graph.
        limit: of that; None for none.
    """
    whole = [Words(bits) for bits in possible_bits(shape)]
    if limit is None:
        return whole[0]
    if (fitting := next((words for words in whole if size_mb(words) <= limit), None)) is not None:
        return fitting
    room = limit - SPARE * shape.layers
    trimmed = [] if vocabulary is None else [_most_pieces(vocabulary, words.bits, size_mb, room) for words in whole]
    if fits := [words for words in trimmed if size_mb(words) <= room]:
        return max(fits, key=lambda words: (words.pieces or 0, words.bits))
    return min((*whole, *trimmed), key=size_mb)


def _most_pieces(vocabulary: Vocabulary, bits: int, size_mb: Callable[[Words], float], room: float) -> Words:
    """Keep the most pieces that fit at these bits, and the fewest where none do."""
    counts = range(vocabulary.fewest, vocabulary.needed + 1)
    fitting = bisect_right(counts, room, key=lambda pieces: size_mb(Words(bits, pieces)))
    pieces = counts[max(0, fitting - 1)]
    return Words(bits, pieces, bounded=pieces < vocabulary.needed)
