"""`toolkit augment`: copies of training rows in which words are replaced by likely other words.

A word that is one piece of a masked language model's vocabulary may become one of the K best pieces at its masked
place, any other word one of its K nearest GloVe words. Each of N_a copies of a row replaces each word with
probability p_t. arXiv 1909.10351, section 3.2 and algorithm 1.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from toolkit.augmentation.glove import WordVectors, load_vectors
from toolkit.augmentation.words import Word, eligible_words, match_case, replace_words
from toolkit.config import AugmentConfig
from toolkit.console import echo, progress
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split, resolve_task
from toolkit.errors import ToolkitError, require_packages
from toolkit.files import atomic_file
from toolkit.tasks import Task

if TYPE_CHECKING:
    from toolkit.augmentation.mlm_candidates import MaskedLMCandidates

CHUNK_ROWS = 1024  # held in memory with their copies, and written together
EXAMPLES = 5
MLM, GLOVE, UNCHANGED = SOURCES = ("mlm", "glove", "kept")  # of a word's candidates, as the report names them


class AugmentedRow(NamedTuple):
    """A row of the file: `origin` numbers the training row from 0; copy 0 is the original itself."""

    origin: int
    copy: int
    text: str
    pair: str | None


class Example(TypedDict):
    """The texts of a training row and of its first copy."""

    origin: int
    original: list[str]
    copy: list[str]


@dataclass
class TextCandidates:
    """Candidates for the words of a text.

    Attributes:
        words: words that have candidates, in their order, each with them.
        words_by_source: number of words by the source of their candidates.
    """

    words: list[tuple[Word, list[str]]] = field(default_factory=list)
    words_by_source: Counter[str] = field(default_factory=Counter)

    def copies(self, text: str, count: int, probability: float, random: np.random.Generator) -> list[str]:
        """Return `count` texts, each word replaced by one of its candidates with this probability."""
        shape = (count, len(self.words))
        chosen = random.random(shape) < probability
        numbers = (random.random(shape) * [len(candidates) for _, candidates in self.words]).astype(np.int64)
        texts = []
        for number_row, chosen_row in zip(numbers, chosen, strict=True):
            draws = zip(self.words, number_row, chosen_row, strict=True)
            texts.append(replace_words(text, [(word, names[n]) for (word, names), n, yes in draws if yes]))
        return texts


@dataclass
class CandidateGenerator:
    """Candidates from the masked language model, if any, else from GloVe; a word with neither stays unchanged.

    Attributes:
        vectors: GloVe.
        masked: the masked language model, or None.
        stopwords: words that are never replaced.
        k: candidates for each word.
    """

    vectors: WordVectors
    masked: MaskedLMCandidates | None
    stopwords: Collection[str]
    k: int

    def candidates(self, texts: Sequence[str]) -> dict[str, TextCandidates]:
        """Find candidates by distinct text; they are computed once, whatever the number of copies."""
        distinct = list(dict.fromkeys(texts))
        words = [eligible_words(text, self.stopwords) for text in distinct]
        masked = self.masked.candidates(distinct, words) if self.masked else {}
        unserved = {word.text for i, row in enumerate(words) for j, word in enumerate(row) if not masked.get((i, j))}
        neighbours = self.vectors.neighbours(unserved, self.k)
        by_text = {text: TextCandidates() for text in distinct}
        for i, text in enumerate(distinct):
            for j, word in enumerate(words[i]):
                names, source = masked.get((i, j)), MLM
                if not names:
                    names = [match_case(name, word.text) for name in neighbours.get(word.text, [])]
                    source = GLOVE if names else UNCHANGED
                by_text[text].words_by_source[source] += 1
                if names:
                    by_text[text].words.append((word, names))
        return by_text


@dataclass
class Report:
    """Counts of rows and words, examples and time, for the terminal and for FILE.report.json."""

    rows: int = 0
    written: int = 0
    duplicates: int = 0
    words_by_source: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SOURCES, 0)))
    examples: list[Example] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def words(self) -> int:
        """Words that might have been replaced."""
        return self.words_by_source.total()

    @property
    def words_per_s(self) -> float:
        """Words processed in a second."""
        return round(self.words / self.seconds, 1) if self.seconds else 0.0

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of the words by the source of their candidates."""
        return {source: n / self.words if self.words else 0.0 for source, n in self.words_by_source.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the part of FILE.report.json that was measured."""
        return {
            "rows": self.rows, "written": self.written, "duplicates_dropped": self.duplicates, "words": self.words,
            "served": dict(self.words_by_source), "share": self.fractions, "examples": self.examples,
            "seconds": round(self.seconds, 2), "words_per_s": self.words_per_s,
        }  # fmt: skip


def run_augment(config: AugmentConfig) -> Path:
    """Write the training rows of a task and their copies to `config.out` (Parquet), and a report beside it.

    Columns: text, text_pair (for pairs), label (a class name, a number, or names), origin (number of the training
    row, from 0) and copy (0 for the original, which comes first). Copies equal to an earlier row of the same origin are
    dropped. The same options give the same bytes.

    Raises:
        ToolkitError: options, data, vectors or a model that cannot be used; nothing is written.
    """
    config.check()
    require_packages("pyarrow", "sklearn", purpose="toolkit augment")
    out = Path(config.out)
    if not out.parent.is_dir() or out.is_dir():
        raise ToolkitError(f"--out {out}: cannot be written", expected="a file in a directory that exists")
    if out.exists() and not config.overwrite:
        raise ToolkitError(f"--out {out} is there already", fix="--overwrite, or another --out")
    task = resolve_task(config.task, config.data, DataOptions.of(config))
    split = load_split(task, "train", config.data, DataOptions.of(config))
    origins = split.sample(config.max_rows or len(split), config.seed)
    copies = task.copies if config.copies is None else config.copies
    vectors = load_vectors(config.glove)
    masked = None if config.mlm is None else _open_mlm(config.mlm, config)
    echo(f"augmenting {task.name}: {len(origins):,} rows, {copies} copies of each")
    if masked is None:
        echo("no --mlm: GloVe serves all words")
    elif masked.precision != config.precision == "bf16":
        echo("--precision fp32 instead of bf16: with this device's bf16 products candidates would depend on the batch")
    generator, report = CandidateGenerator(vectors, masked, stopwords(), config.candidates), Report()
    chunks = augmented(
        split, origins, generator, report, copies=copies, probability=config.replace_probability, seed=config.seed
    )
    start = time.perf_counter()
    with atomic_file(out) as partial:
        _write_rows(partial, task, split, chunks)
        report.seconds = time.perf_counter() - start
    record = {
        "config": config.to_dict(), "task": task.name, "copies": copies, "data": split.digest, "mlm": config.mlm,
        "mlm_precision": masked.precision if masked else None, "glove": vectors.source, **report.to_dict(),
    }  # fmt: skip
    report_path = out.with_name(out.name + ".report.json")
    with atomic_file(report_path) as partial:
        partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _print_summary(report)
    echo(f"wrote {out} and {report_path.name}")
    return out


def augmented(
    split: Split, origins: np.ndarray, generator: CandidateGenerator, report: Report, *, copies: int,
    probability: float, seed: int,
) -> Iterator[list[AugmentedRow]]:  # fmt: skip
    """Yield chunks of rows, each original before its copies; add their counts to `report`.

    Args:
        split: the training rows.
        origins: numbers of the rows to augment.
        generator: finds candidates.
        report: receives counts and examples.
        copies: N_a.
        probability: p_t.
        seed: of the draws of each row, together with the row's own number.
    """
    sides = [split.texts] if split.pairs is None else [split.texts, split.pairs]
    with progress("augment", len(origins)) as bar:
        for start in range(0, len(origins), CHUNK_ROWS):
            chunk: list[int] = origins[start : start + CHUNK_ROWS].tolist()
            candidates = generator.candidates([side[origin] for side in sides for origin in chunk])
            rows: list[AugmentedRow] = []
            for origin in chunk:
                # seeded by the row's own number: neither chunk nor subset changes its copies
                random, texts_by_side = np.random.default_rng([seed, origin]), []
                for side in sides:
                    text = side[origin]
                    texts_by_side.append([text, *candidates[text].copies(text, copies, probability, random)])
                    report.words_by_source.update(candidates[text].words_by_source)
                rows += _distinct(origin, texts_by_side, report)
            report.rows += len(chunk)
            report.written += len(rows)
            bar.advance(len(chunk), words=float(report.words))
            yield rows


def _distinct(origin: int, sides: list[list[str]], report: Report) -> list[AugmentedRow]:
    """Drop the copies of a row that repeat an earlier one, and count them."""
    rows: dict[tuple[str, ...], AugmentedRow] = {}
    for copy, texts in enumerate(zip(*sides, strict=True)):
        rows.setdefault(texts, AugmentedRow(origin, copy, texts[0], texts[1] if len(texts) > 1 else None))
    report.duplicates += len(sides[0]) - len(rows)
    if len(rows) > 1 and len(report.examples) < EXAMPLES:
        original, first_copy = list(rows)[:2]
        report.examples.append({"origin": origin, "original": list(original), "copy": list(first_copy)})
    return list(rows.values())


def stopwords() -> frozenset[str]:
    """Return the words that are never replaced: scikit-learn's 318 ENGLISH_STOP_WORDS, in lower case."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def _open_mlm(name: str, config: AugmentConfig) -> MaskedLMCandidates:
    require_packages("torch", "transformers", purpose="toolkit augment --mlm")
    from toolkit.augmentation.mlm_candidates import MaskedLMCandidates
    from toolkit.models.loading import Source

    with tempfile.TemporaryDirectory() as workdir:
        return MaskedLMCandidates(
            Source(name, Path(workdir)), config.candidates, config.batch_size, config.together, config.precision
        )


def _write_rows(path: Path, task: Task, split: Split, chunks: Iterator[list[AugmentedRow]]) -> None:
    """Write chunks as they come, each as a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"regression": pa.float64(), "multi_label": pa.list_(pa.string())}.get(task.kind, pa.string())
    pair = [] if split.pairs is None else [("text_pair", pa.string())]
    schema = pa.schema(
        [("text", pa.string()), *pair, ("label", label), ("origin", pa.int64()), ("copy", pa.int32())]
    )  # fmt: skip
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in chunks:
            origins, copies, texts, pairs = zip(*rows, strict=True)
            labels = [_label(task, split.labels[origin]) for origin in origins]
            columns = {"text": texts, "text_pair": pairs, "label": labels, "origin": origins, "copy": copies}
            writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema=schema))


def _label(task: Task, value: Any) -> str | float | list[str]:
    """Return a label as `toolkit.data.datasets` reads it."""
    if task.kind == "regression":
        return float(value)
    if task.kind == "multi_label":
        return [name for name, is_set in zip(task.labels, value, strict=True) if is_set]
    return task.labels[int(value)]


def _print_summary(report: Report) -> None:
    percent = {source: f"{100 * fraction:.1f} %" for source, fraction in report.fractions.items()}
    echo(
        f"{report.rows:,} rows became {report.written:,}, {report.duplicates:,} duplicates dropped; of "
        f"{report.words:,} words the masked language model served {percent[MLM]}, GloVe {percent[GLOVE]}, "
        f"{percent[UNCHANGED]} had no candidate; {report.words_per_s:,.0f} words/s"
    )
    for example in report.examples:
        for original, copy in zip(example["original"], example["copy"], strict=True):
            echo(f"  {original}\n  -> {copy}")
