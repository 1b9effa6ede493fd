"""The rows of a distillation as its models read them, and a teacher's logits beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.console import echo
from toolkit.data.datasets import Split
from toolkit.data.splits import TaskSplits
from toolkit.data.tokenization import EncodedTexts, TextEncoder
from toolkit.data.truncation import Truncation, measure_truncation, say_truncation
from toolkit.data.vocabulary import TrimmedVocabulary, select_pieces
from toolkit.distillation.answer_cache import AnswerCache, Inputs
from toolkit.distillation.rows import TaskRows
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source
from toolkit.models.trimming import trimmed_source
from toolkit.tasks import Task
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import model_logits
from toolkit.training.scoring import SplitScorer

TEACHER_LOGITS = "the teacher's answers"  # name of the phase, and of its progress bar


@dataclass(frozen=True)
class DistillationData:
    """The rows of a task, encoded for one model: for the student, or for a teacher that reads other word pieces.

    Attributes:
        task: with the length at which texts are truncated.
        splits, train, inputs, digests: as in `TaskRows`.
        reader: the model whose word pieces these are.
        trimmed: what is left of its vocabulary; None for all.
        encoder: its tokenizer.
        texts: `inputs`, encoded.
        scorer: the rows that choose and that are reported, encoded.
        truncation: shares that are cut, of "train" (with the unlabelled texts) and of each split that is scored.
    """

    task: Task
    splits: TaskSplits
    train: Split
    inputs: Inputs
    digests: dict[str, str]
    reader: Source
    trimmed: TrimmedVocabulary | None
    encoder: TextEncoder
    texts: EncodedTexts
    scorer: SplitScorer
    truncation: dict[str, Truncation]

    @classmethod
    def read(
        cls, rows: TaskRows, reader: Source, max_length: int | None, trimmed: TrimmedVocabulary | None = None
    ) -> DistillationData:
        """Encode rows by a model's tokenizer.

        Args:
            rows: of a task.
            reader: the model; its vocabulary may be `trimmed`.
            max_length: tokens at which texts are truncated; None takes the model's `stated_length`.

        Raises:
            ToolkitError: a length without positions in the model.
        """
        encoder = reader.encoder(rows.task, max_length or reader.stated_length)
        task = replace(rows.task, max_length=encoder.max_length)
        encoded, scorer = encoder.encode(*rows.inputs), SplitScorer(task, rows.splits, encoder)
        truncation = {"train": measure_truncation(encoder, encoded, *rows.inputs), **scorer.truncation}
        return cls(
            task, rows.splits, rows.train, rows.inputs, rows.digests, reader, trimmed, encoder, encoded, scorer,
            truncation,
        )  # fmt: skip

    def announce(self, mapping: Sequence[int]) -> None:
        """Print the task, its numbers of rows, the layers that are learnt, and what the length cuts."""
        layers = f"; layers {tuple(mapping)}" if mapping else ""
        rows = f"{len(self.texts):,} texts, {self.splits.describe()}"
        echo(f"distilling {self.task.name} ({self.task.answers}): {rows}{layers}")
        for split, truncation in self.truncation.items():
            say_truncation(split, truncation)

    def answers(self, teacher: Any, precision: str, cache: AnswerCache | None = None) -> np.ndarray:
        """Run the teacher on all training texts once, with its matrix products in `precision`; return logits [n, C].

        Args:
            teacher: a classifier in eval mode, its outputs in the task's order, that reads these ids.
            precision: of the matrix products.
            cache: has the answers to some texts, and gets those to the others; None asks for all.
        """

        def ask(rows: np.ndarray) -> np.ndarray:
            return model_logits(teacher, self.texts.take(rows), TEACHER_LOGITS, precision)

        return ask(np.arange(len(self.texts))) if cache is None else cache.logits(self.inputs, ask)


def student_data(rows: TaskRows, reader: Source, max_length: int | None, limit: int, workdir: Path) -> DistillationData:
    """Encode rows for a student; a vocabulary of more than `limit` pieces is cut to those of the texts, and it is said.

    Args:
        rows: of a task.
        reader: the model whose word pieces the student reads.
        max_length: tokens at which texts are truncated; None takes the model's `stated_length`.
        limit: pieces.
        workdir: gets the files of a trimmed tokenizer.

    Raises:
        ToolkitError: a length without positions in the model.
    """
    reader, trimmed = trim_reader(reader, rows.inputs, limit, workdir)
    return DistillationData.read(rows, reader, max_length, trimmed)


def trim_reader(reader: Source, inputs: Inputs, limit: int, workdir: Path) -> tuple[Source, TrimmedVocabulary | None]:
    """Cut a vocabulary of more than `limit` pieces to those of the texts, and say so; a smaller one stays whole.

    Args:
        reader: the model whose word pieces the student reads.
        inputs: the texts that the student learns from, and for pairs second texts.
        limit: pieces.
        workdir: gets the tokenizer's files.

    Returns:
        The model with the tokenizer that is left, and what is left of the vocabulary, None for all.
    """
    size = int(reader.config.vocab_size)
    if size <= limit:
        return reader, None
    what = f"the vocabulary of {reader.name}, {size:,} word pieces, more than {limit:,} (--vocabulary-limit)"
    texts, pairs = inputs
    try:
        trimmed = select_pieces(reader.tokenizer_dir, texts, pairs or [])
    except ToolkitError as error:
        echo(f"{what}, stays whole: {error.problem}")
        return reader, None
    padding = reader.config.pad_token_id or 0
    if trimmed.renumbered.get(padding) != padding:
        echo(f"{what}, stays whole: its padding stands behind other pieces")
        return reader, None
    echo(f"{what}, is cut to the {len(trimmed.ids):,} that the texts need, and single characters")
    return trimmed_source(reader, trimmed, workdir / "trimmed"), trimmed


def teacher_logits_dataset(texts: EncodedTexts, logits: np.ndarray, labels: np.ndarray) -> EncodedDataset:
    """Join n encoded texts with the teacher's logits [n, C], and with labels [k, ...] of the first k <= n texts.

    Returns:
        A dataset with the columns targets [n, C], labels [n, ...], 0 where there is none, and labelled [n] bool.
    """
    padded = np.zeros((len(texts), *labels.shape[1:]), dtype=labels.dtype)
    padded[: len(labels)] = labels
    return EncodedDataset(texts, logits, labels=padded, labelled=np.arange(len(texts)) < len(labels))
