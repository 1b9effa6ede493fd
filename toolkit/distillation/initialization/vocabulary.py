"""Word pieces that two models share, so that one starts from the embeddings of the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.models.loading import Source
from toolkit.reports.table import percent

ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MIN_SHARED_PIECES = 0.9  # of the teacher's vocabulary, for a model of another vocabulary to be taken


def shared_rows(start: Source, source: Source, name: str) -> np.ndarray:
    """Find the row of the starting model's word embeddings for each row of the teacher's, -1 where there is none.

    Args:
        start: the model to start from.
        source: the teacher.
        name: of the model to start from, as on the command line.

    Raises:
        ToolkitError: fewer than MIN_SHARED_PIECES of the teacher's pieces are in the other vocabulary.
    """
    rows = _mapped(start, source)
    shared = float((rows >= 0).mean())
    if shared < MIN_SHARED_PIECES:
        raise ToolkitError(
            f"--init {name} has another vocabulary than {source.name}: its embeddings stand for other words, only "
            f"{percent(shared, 0)} of the pieces are the same",
            expected="teacher, random, or a model with the teacher's word pieces",
            fix="--init teacher, or a student distilled from this teacher's pre-trained form",
        )
    return rows


def shares_pieces(start: Source, source: Source) -> bool:
    """Return whether a model has at least MIN_SHARED_PIECES of the teacher's word pieces, under any numbers."""
    return bool((_mapped(start, source) >= 0).mean() >= MIN_SHARED_PIECES)


def _mapped(start: Source, source: Source) -> np.ndarray:
    return map_vocabulary(source.tokenizer, start.tokenizer, source.config.vocab_size, start.config.vocab_size)


def map_vocabulary(target: Any, source: Any, target_rows: int, source_rows: int) -> np.ndarray:
    """Map each row of an embedding table to the row of another table for the same piece or special role.

    Args:
        target, source: the tokenizers.
        target_rows, source_rows: rows of the tables, which may be fewer or more than their tokenizers' pieces.

    Returns:
        [target_rows] int64, -1 where there is none.
    """
    source_ids, rows = source.get_vocab(), np.full(target_rows, -1, dtype=np.int64)
    pieces = [(row, source_ids.get(piece, -1)) for piece, row in target.get_vocab().items()]
    roles = [(getattr(target, f"{role}_id"), getattr(source, f"{role}_id")) for role in ROLES]
    for target_row, source_row in (*pieces, *(pair for pair in roles if None not in pair)):
        if target_row < target_rows and source_row < source_rows:
            rows[target_row] = source_row
    return rows
