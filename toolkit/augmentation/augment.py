"""`toolkit augment`: more rows to learn from, made by exchanging words for likely others.

A word that is one piece of a masked language model's vocabulary may become one of the K best pieces at its masked
place, any other word one of its K nearest GloVe words. Each of N_a copies of a row exchanges each word with
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
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.augmentation.glove import WordVectors, load_vectors
from toolkit.augmentation.words import Word, eligible_words, match_case, replace_words
from toolkit.config import AugmentConfig
from toolkit.console import echo, progress
from toolkit.data.datasets import Split, load_split, resolve_task
from toolkit.errors import ToolkitError, require_packages
from toolkit.files import atomic_file
from toolkit.tasks import Task

if TYPE_CHECKING:
    from toolkit.augmentation.mlm_candidates import MaskedLMCandidates

CHUNK_ROWS = 1024  # held in memory with their copies, and written together
EXAMPLES = 5
SOURCES = ("mlm", "glove", "kept")


@dataclass
class TextCandidates:
    """What the words of one text may become: those with candidates, in their order; `served` counts all by source."""

    words: list[tuple[Word, list[str]]] = field(default_factory=list)
    served: Counter[str] = field(default_factory=Counter)

    def copies(self, text: str, count: int, probability: float, random: np.random.Generator) -> list[str]:
        """Texts [count] in which each word has become one of its candidates with this probability."""
        shape = (count, len(self.words))
        chosen = random.random(shape) < probability
        numbers = (random.random(shape) * [len(names) for _, names in self.words]).astype(np.int64)
        return [
            replace_words(
                text, [(w, names[n]) for (w, names), n, yes in zip(self.words, row, mask, strict=True) if yes]
            )
            for row, mask in zip(numbers, chosen, strict=True)
        ]


@dataclass
class CandidateGenerator:
    """Finds candidates: the masked language model first, where there is one, then GloVe; else the word is kept."""

    vectors: WordVectors
    masked: MaskedLMCandidates | None
    stopwords: Collection[str]
    k: int

    def choices(self, texts: Sequence[str]) -> dict[str, TextCandidates]:
        """Candidates by distinct text, computed once, whatever the number of copies."""
        distinct = list(dict.fromkeys(texts))
        words = [eligible_words(text, self.stopwords) for text in distinct]
        masked = self.masked.candidates(distinct, words) if self.masked else {}
        others = {word.text for i, found in enumerate(words) for j, word in enumerate(found) if not masked.get((i, j))}
        near = self.vectors.neighbours(others, self.k)
        out = {text: TextCandidates() for text in distinct}
        for i, text in enumerate(distinct):
            for j, word in enumerate(words[i]):
                names, source = masked.get((i, j)), "mlm"
                if not names:
                    names = [match_case(other, word.text) for other in near.get(word.text, [])]
                    source = "glove" if names else "kept"
                out[text].served[source] += 1
                if names:
                    out[text].words.append((word, names))
        return out


@dataclass
class Report:
    """What was made, for people and for FILE.report.json."""

    rows: int = 0
    written: int = 0
    duplicates: int = 0
    served: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SOURCES, 0)))
    examples: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Counts, the share of words that each source served, examples and speed."""
        words = self.served.total()
        return {
            "rows": self.rows, "written": self.written, "duplicates_dropped": self.duplicates, "words": words,
            "served": dict(self.served), "share": {s: n / words if words else 0.0 for s, n in self.served.items()},
            "examples": self.examples, "seconds": round(self.seconds, 2),
            "words_per_s": round(words / self.seconds, 1) if self.seconds else 0.0,
        }  # fmt: skip


def run_augment(config: AugmentConfig) -> Path:
    """Write the training rows of a task and their copies to `config.out` (Parquet), and a report beside it.

    Columns: text, text_pair (for pairs), label (a class name, a number, or names), origin (number of the training
    row, from 0) and copy (0 for the original, which comes first). Copies equal to one before them are dropped. The
    same options give the same bytes.

    Raises:
        ToolkitError: options, data, vectors or a model that cannot be used; nothing is written.
    """
    config.check()
    require_packages("pyarrow", "sklearn", purpose="toolkit augment")
    out = Path(config.out)
    if not out.parent.is_dir() or out.is_dir():
        raise ToolkitError(f"--out {out}: cannot be written", expected="a file in a directory that exists")
    task = resolve_task(config.task, config.data)
    split = load_split(task, "train", config.data)
    origins = split.sample(config.max_rows or len(split), config.seed)
    copies = task.copies if config.copies is None else config.copies
    with tempfile.TemporaryDirectory() as workdir:
        proposer = CandidateGenerator(load_vectors(config.glove), _masked_words(config, Path(workdir)), stopwords(),
                            config.candidates)  # fmt: skip
    echo(f"augmenting {task.name}: {len(origins):,} rows, {copies} copies of each")
    if proposer.masked is None:
        echo("no --mlm: GloVe serves all words")
    elif proposer.masked.precision != config.precision == "bf16":
        echo("--precision fp32 instead of bf16: with this device's bf16 products candidates would depend on the batch")
    report, start = Report(), time.perf_counter()
    with atomic_file(out) as partial:
        _write(partial, task, split, augmented(config, copies, split, origins, proposer, report))
        report.seconds = time.perf_counter() - start
    told = {"config": config.to_dict(), "task": task.name, "copies": copies, "data": split.digest,
            "mlm": config.mlm, "mlm_precision": proposer.masked.precision if proposer.masked else None,
            "glove": proposer.vectors.source, **report.to_dict()}  # fmt: skip
    beside = out.with_name(out.name + ".report.json")
    with atomic_file(beside) as partial:
        partial.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _summary(told)
    echo(f"wrote {out} and {beside.name}")
    return out


def augmented(
    config: AugmentConfig, copies: int, split: Split, origins: np.ndarray, proposer: CandidateGenerator, report: Report,
) -> Iterator[list[tuple[int, int, str, str | None]]]:  # fmt: skip
    """Chunks of (origin, copy, text, text_pair), each row's original first; counts go to `report`."""
    with progress("augment", len(origins)) as bar:
        for start in range(0, len(origins), CHUNK_ROWS):
            chunk: list[int] = origins[start : start + CHUNK_ROWS].tolist()
            sides = [split.texts] if split.pairs is None else [split.texts, split.pairs]
            choices = proposer.choices([side[origin] for side in sides for origin in chunk])
            rows: list[tuple[int, int, str, str | None]] = []
            for origin in chunk:
                # by the row's own number: neither chunk nor subset changes its copies
                random, made = np.random.default_rng([config.seed, origin]), []
                for side in sides:
                    text = side[origin]
                    made.append([text, *choices[text].copies(text, copies, config.replace_probability, random)])
                    report.served.update(choices[text].served)
                rows += _distinct(origin, made, report)
            report.rows += len(chunk)
            report.written += len(rows)
            bar.advance(len(chunk), words=float(report.served.total()))
            yield rows


def _distinct(origin: int, sides: list[list[str]], report: Report) -> list[tuple[int, int, str, str | None]]:
    """A row and its copies without those that repeat an earlier one."""
    rows: dict[tuple[str, ...], tuple[int, int, str, str | None]] = {}
    for copy, texts in enumerate(zip(*sides, strict=True)):
        rows.setdefault(texts, (origin, copy, texts[0], texts[1] if len(texts) > 1 else None))
    report.duplicates += len(sides[0]) - len(rows)
    if len(rows) > 1 and len(report.examples) < EXAMPLES:
        original, first = list(rows)[:2]
        report.examples.append({"origin": origin, "original": list(original), "copy": list(first)})
    return list(rows.values())


def stopwords() -> frozenset[str]:
    """Words that are never exchanged: scikit-learn's ENGLISH_STOP_WORDS, 318 of them, in lower case."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def _masked_words(config: AugmentConfig, workdir: Path) -> MaskedLMCandidates | None:
    if config.mlm is None:
        return None
    require_packages("torch", "transformers", purpose="toolkit augment --mlm")
    from toolkit.augmentation.mlm_candidates import MaskedLMCandidates
    from toolkit.models.loading import Source

    source = Source(config.mlm, workdir)
    return MaskedLMCandidates(source, config.candidates, config.batch_size, config.together, config.precision)


def _write(
    path: Path, task: Task, split: Split, chunks: Iterator[list[tuple[int, int, str, str | None]]]
) -> None:  # fmt: skip
    """Write chunks as they come, one row group each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"regression": pa.float64(), "multi_label": pa.list_(pa.string())}.get(task.kind, pa.string())
    pair = [] if split.pairs is None else [("text_pair", pa.string())]
    columns = [("text", pa.string()), *pair, ("label", label), ("origin", pa.int64()), ("copy", pa.int32())]
    schema = pa.schema(columns)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in chunks:
            origins, copies, texts, pairs = zip(*rows, strict=True)
            found = {"text": texts, "text_pair": pairs, "origin": origins, "copy": copies,
                     "label": [_label(task, split.labels[origin]) for origin in origins]}  # fmt: skip
            writer.write_table(pa.table({name: found[name] for name in schema.names}, schema=schema))


def _label(task: Task, value: Any) -> str | float | list[str]:
    """A label as `toolkit.data.datasets` reads it."""
    if task.kind == "regression":
        return float(value)
    if task.kind == "multi_label":
        return [name for name, given in zip(task.labels, value, strict=True) if given]
    return task.labels[int(value)]


def _summary(told: dict[str, Any]) -> None:
    share = {source: f"{100 * told['share'][source]:.1f} %" for source in SOURCES}
    echo(
        f"{told['rows']:,} rows became {told['written']:,}, {told['duplicates_dropped']:,} duplicates dropped; of "
        f"{told['words']:,} words the masked language model served {share['mlm']}, GloVe {share['glove']}, "
        f"{share['kept']} had no candidate; {told['words_per_s']:,.0f} words/s"
    )
    for example in told["examples"]:
        for original, copy in zip(example["original"], example["copy"], strict=True):
            echo(f"  {original}\n  -> {copy}")
