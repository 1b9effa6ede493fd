"""A vocabulary trimmed to what given texts need, in the files of its tokenizer: WordPiece, BPE or Unigram.

A text whose pieces all stay is cut as before. In the others a word whose piece is dropped is written in smaller pieces,
down to single characters, which all stay.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ToolkitError

TokenizerModel = dict[str, Any]  # the entry "model" of a tokenizer.json

BATCH = 1000  # texts tokenized together
TRIMMABLE = ("WordPiece", "BPE", "Unigram")  # models of the `tokenizers` library
# a vocabulary in other forms than tokenizer.json, which would still hold the old numbers
OTHER_FORMS = ("vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")


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

    def to_dict(self, positions: int | None = None) -> dict[str, int | None]:
        """Give the entry of a manifest; `positions` are those that are left, None for all."""
        return {"kept": len(self.ids), "of": self.old_size, "positions": positions}


@dataclass(frozen=True)
class RankedPieces:
    """The pieces of a vocabulary, by how much texts need them.

    Attributes:
        kind: of the tokenizer's model.
        size: pieces of the vocabulary.
        always: ids of the pieces that stay whatever the texts hold: special ones, single characters, pieces that these
            cannot spell; of BPE also those that the needed ones are built on.
        needed: ids of the other pieces of the texts, the most frequent first.
        shares: how often each needed piece stands among all pieces of the texts, as a fraction.
    """

    kind: str
    size: int
    always: frozenset[int]
    needed: list[int]
    shares: np.ndarray

    @property
    def can_be_bounded(self) -> bool:
        """Whether any needed piece may fall away; those of BPE and Unigram are built on each other."""
        return self.kind == "WordPiece"

    def keep(self, most: int | None = None) -> TrimmedVocabulary:
        """Keep the most frequent pieces, at most so many; None keeps all that are needed."""
        kept = self.needed if most is None else self.needed[: most - len(self.always)]
        return TrimmedVocabulary(np.array(sorted({*self.always, *kept}), dtype=np.int64), self.size)

    def fewest(self, lost: float) -> int:
        """Return how many pieces are enough for at most this fraction of the texts' pieces to fall away."""
        if not self.can_be_bounded:
            return len(self.always) + len(self.needed)
        behind = np.append(self.shares[::-1].cumsum()[::-1], 0.0)  # what falls away behind the first n, n = 0, 1, ...
        return len(self.always) + int(np.argmax(behind <= lost))


def rank_pieces(directory: Path, *texts: Iterable[str]) -> RankedPieces:
    """Rank the pieces of a vocabulary by the mean of their frequencies in collections of texts.

    A large collection does not outweigh the task's own.

    Args:
        directory: holds tokenizer.json.
        texts: the task's texts, and further collections of texts.

    Raises:
        ToolkitError: a tokenizer of another kind.
    """
    from tokenizers import Tokenizer

    stored = _read(directory / "tokenizer.json")
    model, kind = stored["model"], stored["model"]["type"]
    if kind not in TRIMMABLE:
        raise ToolkitError(f"{directory} has a {kind} tokenizer", expected=f"a vocabulary of {', '.join(TRIMMABLE)}")
    vocabulary = _numbers(model)
    stay = {token["id"] for token in stored["added_tokens"]} | _needed_always(model, vocabulary)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counted = [counts for collection in texts if (counts := _count_pieces(tokenizer, collection))]
    frequencies: dict[int, float] = {}
    for counts in counted:
        for i, count in counts.items():
            frequencies[i] = frequencies.get(i, 0.0) + count / counts.total()
    if kind == "BPE":
        stay |= _parts(model, vocabulary, stay | set(frequencies))
    needed = [i for i, _ in sorted(frequencies.items(), key=lambda item: (-item[1], item[0])) if i not in stay]
    shares = np.array([frequencies[i] for i in needed]) / max(1, len(counted))
    return RankedPieces(kind, len(vocabulary), frozenset(stay), needed, shares)


def select_pieces(directory: Path, *texts: Iterable[str], most: int | None = None) -> TrimmedVocabulary:
    """Select the pieces that stay: those of the texts, special ones, single characters, and pieces these cannot spell.

    Args:
        directory, texts: as in `rank_pieces`.
        most: how many pieces may stay, of WordPiece: the most frequent.

    Raises:
        ToolkitError: a tokenizer of another kind, or more than `most` pieces have to stay.
    """
    ranked = rank_pieces(directory, *texts)
    if most is not None and not ranked.can_be_bounded:
        raise ToolkitError(
            f"{directory} has a {ranked.kind} tokenizer, whose pieces are built on each other",
            expected="a WordPiece vocabulary, as BERT, DistilBERT, ELECTRA and MPNet have it, for --max-pieces",
        )
    if most is not None and most < (least := len(ranked.always)):
        raise ToolkitError(
            f"--max-pieces {most}: special pieces, single characters and what these cannot spell are {least}",
            expected=f"at least {least}, better several thousand",
        )
    return ranked.keep(most)


def _count_pieces(tokenizer: Any, texts: Iterable[str]) -> Counter[int]:
    counts, batch = Counter[int](), []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            _count_batch(tokenizer, batch, counts)
            batch.clear()
    _count_batch(tokenizer, batch, counts)
    return counts


def _count_batch(tokenizer: Any, texts: list[str], counts: Counter[int]) -> None:
    for encoding in tokenizer.encode_batch_fast(texts):
        counts.update(encoding.ids)


def _numbers(model: TokenizerModel) -> dict[str, int]:
    """Give the id of each piece; Unigram's are places in its list."""
    if model["type"] == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _needed_always(model: TokenizerModel, vocabulary: dict[str, int]) -> set[int]:
    """Return the ids of the unknown piece, of bytes, of single characters and of what these cannot spell."""
    prefix, suffix = (model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    stay = {i for piece, i in vocabulary.items() if not _can_be_spelled(piece, prefix, suffix, vocabulary)}
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        # an unknown character costs ten more than the rarest piece, which stays so that paths cost what they did
        stay |= {int(np.argmin(scores)), *(() if model["unk_id"] is None else (model["unk_id"],))}
    elif model["unk_token"] in vocabulary:
        stay.add(vocabulary[model["unk_token"]])
    if model.get("byte_fallback"):
        stay |= {vocabulary[name] for name in (f"<0x{byte:02X}>" for byte in range(256)) if name in vocabulary}
    return stay


def _can_be_spelled(piece: str, prefix: str, suffix: str, vocabulary: dict[str, int]) -> bool:
    """Return whether a piece of several characters can be written in single characters of the vocabulary."""
    letters = piece.removeprefix(prefix).removesuffix(suffix)
    if len(letters) < 2:
        return False
    alone = [f"{prefix}{letter}" for letter in letters]
    if not piece.startswith(prefix):
        alone[0] = letters[0]
    if piece.endswith(suffix):
        alone[-1] += suffix
    return all(letter in vocabulary for letter in alone)


def _parts(model: TokenizerModel, vocabulary: dict[str, int], stay: set[int]) -> set[int]:
    """Return the ids of all pieces that byte-pair merges make the given ones of, step by step."""
    made_of: defaultdict[int, set[int]] = defaultdict(set)
    for left, right, whole in _merges(model):
        made_of[vocabulary[whole]] |= {vocabulary[left], vocabulary[right]}
    parts: set[int] = set()
    open_ids = list(stay)
    while open_ids:
        fresh = made_of[open_ids.pop()] - parts - stay
        parts |= fresh
        open_ids += fresh
    return parts


def _merges(model: TokenizerModel) -> Iterator[tuple[str, str, str]]:
    """Yield both pieces of each merge and the one that they become; files hold pairs, older ones "left right"."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right, left + right.removeprefix(prefix)


def _trim_model(model: TokenizerModel, ids: dict[int, int]) -> None:
    """Renumber a tokenizer's model in place; merges of pieces that fell away go with them."""
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in ids]
        model["unk_id"] = None if model["unk_id"] is None else ids[model["unk_id"]]
        return
    old = model["vocab"]
    model["vocab"] = {piece: ids[i] for piece, i in sorted(old.items(), key=lambda item: item[1]) if i in ids}
    if model["type"] == "BPE":
        kept = model["vocab"]
        model["merges"] = [
            [left, right] for left, right, whole in _merges(model) if left in kept and right in kept and whole in kept
        ]


def trim_files(trimmed: TrimmedVocabulary, directory: Path, positions: int | None = None) -> None:
    """Rewrite the tokenizer and the configurations in a directory for the new ids and the longest input."""
    ids = trimmed.renumbered
    stored = _read(directory / "tokenizer.json")
    _trim_model(stored["model"], ids)
    for token in stored["added_tokens"]:
        token["id"] = ids[token["id"]]
    _renumber_template(stored.get("post_processor"), ids)
    _write(directory / "tokenizer.json", stored)
    for name in OTHER_FORMS:
        (directory / name).unlink(missing_ok=True)
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
    config |= {name: ids.get(value, value) for name, value in special_ids(config).items()}
    config["vocab_size"] = len(trimmed.ids)
    if positions is not None:
        config["max_position_embeddings"] = positions
    _write(directory / "config.json", config)


def special_ids(config: dict[str, Any]) -> dict[str, int]:
    """Return the entries of a model's configuration that are ids of pieces."""
    return {name: i for name, i in config.items() if name.endswith("_token_id") and isinstance(i, int)}


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
