"""The packed corpus: plain text of any size as rows of token ids without padding.

The text is tokenized once into one run of ids on disk. A row is [CLS] body [SEP]; inside the body a [SEP] stands
between documents, so that no token of a row is padding and none of the corpus is lost. The ids are mapped from disk,
not loaded: memory does not grow with the corpus.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from tokenizers import Tokenizer

from toolkit.console import echo, progress
from toolkit.data.hub import UNREACHABLE, hub_answers
from toolkit.data.tokenization import Batch
from toolkit.errors import ToolkitError, reason_of, require_packages
from toolkit.files import FileRecord, atomic_file, canonical_json, file_record, sole_writer

DATASET = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")  # NAME or NAME:CONFIG
LONGEST_PIECE = 100_000  # characters of a line that are tokenized together: a whole file may be one line
BATCH_CHARACTERS = 1_000_000


class FileSource(FileRecord):
    """A text file of a corpus."""

    path: str


class DatasetSource(TypedDict):
    """A dataset of a corpus, by name and configuration."""

    dataset: str
    config: str | None


class CorpusInputs(TypedDict):
    """The inputs that decide a packed corpus: equal inputs give equal ids."""

    sources: list[FileSource | DatasetSource]
    tokenizer: str  # SHA-256 of tokenizer.json
    most_tokens: int | None
    dtype: str


class CorpusRecord(CorpusInputs):
    """The inputs of a packed corpus, with the counts and the SHA-256 of its ids; stored beside them and in bundles."""

    tokens: int
    documents: int
    sha256: str


@dataclass(frozen=True)
class PackedCorpus:
    """n rows of one length over a run of token ids.

    Attributes:
        tokens: ids of the whole corpus, [T], mapped from disk.
        length: tokens of a row, [CLS] and [SEP] included.
        first, last: ids of [CLS] and [SEP].
        record: the inputs and the digest of the ids.
    """

    tokens: np.ndarray
    length: int
    first: int
    last: int
    record: CorpusRecord

    def __len__(self) -> int:
        return -(-len(self.tokens) // (self.length - 2))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, [n]: a view of a single number."""
        return np.broadcast_to(np.int64(self.length), (len(self),))

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> Batch:
        """Give the chosen rows: three int64 arrays [B, L]. The corpus starts again where its last row is too short."""
        assert length in (None, self.length), "every row has the same length"
        ids = np.empty((len(rows), self.length), dtype=np.int64)
        ids[:, 0], ids[:, -1] = self.first, self.last
        body = self.length - 2
        for i, row in enumerate(rows):
            run = self.tokens[row * body : (row + 1) * body]
            ids[i, 1:-1] = run if len(run) == body else np.resize(np.append(run, self.tokens[:body]), body)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def pack_corpus(
    corpus: Sequence[str], tokenizer_file: Path, *, length: int, stem: Path, max_rows: int | None = None
) -> PackedCorpus:
    """Tokenize a corpus to STEM.tokens, or reuse the ids there if they come from the same inputs.

    Args:
        corpus: paths, globs, or names of datasets.
        tokenizer_file: a tokenizer.json.
        length: tokens of a row.
        stem: STEM.tokens gets the ids, STEM.tokens.json their record.
        max_rows: the most rows to pack.

    Raises:
        ToolkitError: text that cannot be read, or none at all.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    first, last = _special_ids(tokenizer)
    sources = [source for name in corpus for source in _sources(name)]
    inputs: CorpusInputs = {
        "sources": [source.record() for source in sources], "tokenizer": file_record(tokenizer_file)["sha256"],
        "most_tokens": max_rows * (length - 2) if max_rows else None,
        "dtype": "uint16" if tokenizer.get_vocab_size() <= 2**16 else "uint32",
    }  # fmt: skip
    path = stem.with_name(f"{stem.name}.tokens")
    record = _stored_record(path, inputs)
    if record is None:
        record = _tokenize(path, sources, tokenizer, last, inputs)
        path.with_name(f"{path.name}.json").write_bytes(canonical_json(record))
    echo(f"{record['documents']:,} documents, {record['tokens']:,} tokens in {path}")
    return PackedCorpus(np.memmap(path, dtype=record["dtype"], mode="r"), length, first, last, record)


@dataclass(frozen=True)
class _File:
    """A .txt or .txt.gz file, one document or paragraph a line."""

    path: Path

    def record(self) -> FileSource:
        return {"path": str(self.path), **file_record(self.path)}

    def size(self) -> int:
        return self.path.stat().st_size

    def texts(self) -> Iterator[tuple[str, int]]:
        """Yield each line, or a piece of a very long one, and the bytes of the file read so far."""
        line = 0
        try:
            with self.path.open("rb") as raw:
                plain = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
                with io.TextIOWrapper(plain, encoding="utf-8-sig") as file:
                    while piece := file.readline(LONGEST_PIECE):
                        line += piece.endswith("\n")
                        yield piece, raw.tell()
        except UnicodeDecodeError as error:
            raise ToolkitError(
                f"{self.path} is not UTF-8, soon after line {line}: {error.reason}", expected="plain text in UTF-8"
            ) from None
        except (EOFError, OSError, zlib.error) as error:
            raise ToolkitError(f"{self.path} cannot be read: {error}", expected=".txt or .txt.gz") from None


@dataclass(frozen=True)
class _Dataset:
    """The column `text` of a dataset's training split, streamed: memory holds one row."""

    name: str
    config: str | None

    def record(self) -> DatasetSource:
        return {"dataset": self.name, "config": self.config}

    def size(self) -> int:
        return 0

    def texts(self) -> Iterator[tuple[str, int]]:
        """Yield each line of each row, and 0 bytes: a stream does not know how far it has come."""
        require_packages("datasets", purpose=f"reading {self.name}")
        if not Path(self.name).is_dir() and not hub_answers():
            raise ToolkitError(
                f"cannot read the dataset {self.name}: {UNREACHABLE}", expected="a text file, or a network"
            )
        import datasets

        try:
            for row in datasets.load_dataset(self.name, self.config, split="train", streaming=True):
                for line in str(row["text"]).splitlines():
                    yield line, 0
        except KeyError:
            raise ToolkitError(f"the dataset {self.name} has no column 'text'", expected="plain text") from None
        except Exception as error:  # datasets, huggingface_hub and the network each raise their own
            raise ToolkitError(
                f"cannot read the dataset {self.name}: {reason_of(error)}",
                expected="a text file, or a dataset NAME or NAME:CONFIG",
            ) from error


def _sources(name: str) -> list[_File] | list[_Dataset]:
    """Find the files that a path or glob matches, or else the dataset of that name.

    Raises:
        ToolkitError: neither exists, or a file that is no text.
    """
    paths = [Path(path) for path in sorted(glob.glob(name, recursive=True)) if Path(path).is_file()]
    if paths:
        strange = [path.name for path in paths if not path.name.endswith((".txt", ".txt.gz"))]
        if strange:
            raise ToolkitError(f"--corpus {name}: {strange[0]} is no text file", expected=".txt or .txt.gz")
        return [_File(path) for path in paths]
    if Path(name).is_dir():
        return [_Dataset(name, None)]
    match = DATASET.fullmatch(name)
    if not match or name.endswith((".txt", ".gz")):
        raise ToolkitError(f"--corpus {name}: no such file", expected=".txt, .txt.gz, a glob, or a dataset's name")
    return [_Dataset(match[1], match[2])]


def _special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Give the ids before and after a single text: [CLS] and [SEP], or <s> and </s>."""
    ids = tokenizer.encode("").ids
    if len(ids) != 2:
        raise ToolkitError(
            f"the teacher's tokenizer puts {len(ids)} special tokens around a text", expected="one before, one after"
        )
    return ids[0], ids[1]


def _stored_record(path: Path, inputs: CorpusInputs) -> CorpusRecord | None:
    """Read the record of the ids at `path`, if they come from the same inputs and are whole."""
    try:
        record = cast(CorpusRecord, json.loads(path.with_name(f"{path.name}.json").read_bytes()))
        same = {key: value for key, value in record.items() if key in inputs} == json.loads(canonical_json(inputs))
        return record if same and file_record(path)["sha256"] == record["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _tokenize(
    path: Path, sources: Sequence[_File | _Dataset], tokenizer: Tokenizer, separator: int, inputs: CorpusInputs
) -> CorpusRecord:
    """Tokenize all sources to `path`."""
    tokens, documents, most, digest = 0, 0, inputs["most_tokens"], hashlib.sha256()
    total = max(sum(source.size() for source in sources), 1)
    with (
        sole_writer(path), atomic_file(path) as partial, partial.open("wb") as file, progress("packing", total) as bar,
    ):  # fmt: skip
        for texts, read in _batches(sources):
            encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
            run = np.concatenate([np.array([*encoding.ids, separator], inputs["dtype"]) for encoding in encodings])
            run = run[: most - tokens] if most else run
            digest.update(run.tobytes())
            file.write(run.tobytes())
            tokens, documents = tokens + len(run), documents + len(texts)
            bar.advance(read, tokens=f"{tokens:,} tokens")
            if tokens == most:
                break
        if not tokens:
            raise ToolkitError("the corpus holds no text", expected="one document or paragraph a line")
    return {**inputs, "tokens": tokens, "documents": documents, "sha256": digest.hexdigest()}


def _batches(sources: Sequence[_File | _Dataset]) -> Iterator[tuple[list[str], int]]:
    """Yield lines that hold text, about BATCH_CHARACTERS together, and the bytes read since the last batch."""
    texts: list[str] = []
    size = done = 0
    for source in sources:
        before = 0
        for text, read in itertools.chain(source.texts(), [("", source.size())]):
            done, before = done + read - before, read
            if stripped := text.strip():
                texts.append(stripped)
                size += len(stripped)
            if size >= BATCH_CHARACTERS:
                yield texts, done
                texts, size, done = [], 0, 0
    if texts:
        yield texts, done
