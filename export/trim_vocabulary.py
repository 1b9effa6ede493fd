"""A WordPiece vocabulary trimmed to what a task's text needs, in the tokenizer, the configuration and the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError

BATCH = 1000  # texts tokenized together


@dataclass(frozen=True)
class TrimmedVocabulary:
    """The word pieces that stay.

    Attributes:
        ids: their old ids, ascending; the new id of a piece is its index here.
        old_size: pieces before trimming.
    """

    ids: np.ndarray
    old_size: int

    @property
    def renumbered(self) -> dict[int, int]:
        """Return new ids by old ones."""
        return {int(old): new for new, old in enumerate(self.ids)}


def select_pieces(directory: Path, *texts: Iterable[str], most: int | None = None) -> TrimmedVocabulary:
    """Select the pieces that stay: those of the texts, special ones, single characters, and pieces these cannot spell.

    A word whose piece is dropped is written in smaller pieces, down to single characters.

    Args:
        directory: holds tokenizer.json.
        texts: the task's texts, and further collections of texts.
        most: how many pieces may stay: the most frequent, by the mean of their frequencies in the collections, so that
            a large collection does not outweigh the task's own.

    Raises:
        ToolkitError: the tokenizer is not WordPiece, or more than `most` pieces have to stay.
    """
    from tokenizers import Tokenizer

    stored = _read(directory / "tokenizer.json")
    if stored["model"]["type"] != "WordPiece":
        raise ToolkitError(
            f"{directory} has a {stored['model']['type']} tokenizer, whose pieces are built on each other",
            expected="a WordPiece vocabulary, as BERT, DistilBERT, ELECTRA and MPNet have it, for --trim-vocabulary",
        )
    vocabulary: dict[str, int] = stored["model"]["vocab"]
    prefix: str = stored["model"]["continuing_subword_prefix"]
    stay = {token["id"] for token in stored["added_tokens"]} | {vocabulary[stored["model"]["unk_token"]]}
    stay |= {i for piece, i in vocabulary.items() if not _can_be_spelled(piece, prefix, vocabulary)}
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    frequencies: dict[int, float] = {}
    for collection in texts:
        counts = _count_pieces(tokenizer, list(collection))
        for i, count in counts.items():
            frequencies[i] = frequencies.get(i, 0.0) + count / counts.total()
    needed = [i for i, _ in sorted(frequencies.items(), key=lambda item: (-item[1], item[0])) if i not in stay]
    if most is not None and most < len(stay):
        raise ToolkitError(
            f"--max-pieces {most}: special pieces, single characters and what these cannot spell are {len(stay)}",
            expected=f"at least {len(stay)}, better several thousand",
        )
    stay.update(needed if most is None else needed[: most - len(stay)])
    return TrimmedVocabulary(np.array(sorted(stay), dtype=np.int64), len(vocabulary))


def _count_pieces(tokenizer: Any, texts: list[str]) -> Counter[int]:
    counts = Counter[int]()
    for start in range(0, len(texts), BATCH):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + BATCH]):
            counts.update(encoding.ids)
    return counts


def _can_be_spelled(piece: str, prefix: str, vocabulary: dict[str, int]) -> bool:
    """Return whether a piece of several characters can be written in single characters of the vocabulary."""
    inside = piece.startswith(prefix)
    letters = piece.removeprefix(prefix)
    if len(letters) < 2:
        return False
    first = f"{prefix}{letters[0]}" if inside else letters[0]
    return first in vocabulary and all(f"{prefix}{letter}" in vocabulary for letter in letters[1:])


def trim_files(trimmed: TrimmedVocabulary, directory: Path, positions: int | None = None) -> None:
    """Rewrite the tokenizer and the configurations in a directory for the new ids and the longest input."""
    ids = trimmed.renumbered
    stored = _read(directory / "tokenizer.json")
    vocabulary = stored["model"]["vocab"]
    stored["model"]["vocab"] = {
        piece: ids[i] for piece, i in sorted(vocabulary.items(), key=lambda item: item[1]) if i in ids
    }
    for token in stored["added_tokens"]:
        token["id"] = ids[token["id"]]
    _renumber_template(stored.get("post_processor"), ids)
    _write(directory / "tokenizer.json", stored)
    if (directory / "vocab.txt").exists():
        lines = "".join(f"{piece}\n" for piece in stored["model"]["vocab"])
        (directory / "vocab.txt").write_text(lines, encoding="utf-8")
    if (directory / "added_tokens.json").exists():
        added = _read(directory / "added_tokens.json")
        _write(directory / "added_tokens.json", {piece: ids[i] for piece, i in added.items()})
    if (directory / "tokenizer_config.json").exists():
        config = _read(directory / "tokenizer_config.json")
        if "added_tokens_decoder" in config:
            decoder = config["added_tokens_decoder"]
            config["added_tokens_decoder"] = {str(ids[int(i)]): token for i, token in decoder.items()}
        if positions is not None:
            config["model_max_length"] = positions
        _write(directory / "tokenizer_config.json", config)
    config = _read(directory / "config.json")
    for name, value in config.items():
        if name.endswith("_token_id") and isinstance(value, int):
            config[name] = ids.get(value, value)
    config["vocab_size"] = len(trimmed.ids)
    if positions is not None:
        config["max_position_embeddings"] = positions
    _write(directory / "config.json", config)


def trim_model(trimmed: TrimmedVocabulary, model: Any) -> None:
    """Cut a classifier's word embeddings to the rows of the pieces that stay.

    Raises:
        ToolkitError: the id of the padding would change, from which some models count positions.
    """
    import torch
    from torch import nn

    padding = int(model.config.pad_token_id or 0)
    if trimmed.renumbered.get(padding) != padding:
        raise ToolkitError(
            f"the padding has id {padding}, behind word pieces that could fall away",
            expected="padding among the first ids, as BERT, DistilBERT, ELECTRA and MPNet have it",
        )
    embedding = model.get_input_embeddings()
    rows = embedding.weight.detach()[torch.from_numpy(trimmed.ids)].clone()
    model.set_input_embeddings(nn.Embedding(len(rows), rows.shape[1], padding_idx=embedding.padding_idx, _weight=rows))
    model.config.vocab_size = len(rows)


def trim_positions(model: Any, longest: int) -> int | None:
    """Cut a classifier's position embeddings to the rows that inputs of up to `longest` tokens need.

    Returns:
        The number of rows that are left; None where the model does not count positions from 0, and all rows stay.
    """
    from torch import nn

    if model.config.model_type not in ("bert", "distilbert", "electra"):  # whose positions are 0, 1, 2 ...
        return None
    embeddings = model.base_model.embeddings
    rows = embeddings.position_embeddings.weight.detach()[:longest].clone()
    embeddings.position_embeddings = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            setattr(embeddings, name, getattr(embeddings, name)[:, :longest])
    model.config.max_position_embeddings = len(rows)
    return len(rows)


def _renumber_template(processor: Any, ids: dict[int, int]) -> None:
    """Renumber the special tokens of a TemplateProcessing, a BertProcessing, or a sequence of these."""
    if not isinstance(processor, dict):
        return
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [ids[i] for i in token["ids"]]
    for name in ("cls", "sep"):
        if name in processor:
            piece, i = processor[name]
            processor[name] = [piece, ids[i]]
    for inner in processor.get("processors", []):
        _renumber_template(inner, ids)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
