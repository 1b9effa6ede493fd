"""The rows of word pieces that two vocabularies share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.toolkit.distillation.initialization.test_student import other_teacher, renumbered
from toolkit.distillation.initialization.vocabulary import map_vocabulary


def test_pieces_beyond_the_end_of_a_table_have_no_row(tiny_bert: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Pieces added to a tokenizer, and not to its model."""
    from transformers import AutoTokenizer

    path = other_teacher(tiny_bert, renumbered(tokenizer, str), tmp_path / "teacher")
    longer = AutoTokenizer.from_pretrained(path)
    count = len(longer)
    assert longer.add_tokens(["wonderful"]) == 1
    assert map_vocabulary(longer, longer, count + 1, count + 1).tolist() == [*range(count + 1)]
    assert map_vocabulary(longer, longer, count + 1, count).tolist() == [*range(count), -1]
    assert map_vocabulary(longer, longer, count, count + 1).tolist() == [*range(count)]
