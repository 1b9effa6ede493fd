"""How a teacher teaches: by its layers too or by its answers only, and which word pieces its student reads.

Layers can be learnt from where they are recorded and both models read the same pieces. A student of other pieces, or of
a family whose layers are not known, learns from the answers to whole texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import DistillConfig, layer_options
from toolkit.console import echo
from toolkit.data.vocabulary import TrimmedVocabulary, select_pieces
from toolkit.distillation.answer_cache import Inputs
from toolkit.distillation.initialization.released import is_released, rewrite_released
from toolkit.distillation.initialization.student import COMPUTED
from toolkit.distillation.initialization.vocabulary import shares_pieces
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import family_name
from toolkit.models.loading import Source
from toolkit.models.trimming import trimmed_source


@dataclass(frozen=True)
class Teaching:
    """What a student can learn from its teacher.

    Attributes:
        reader: the model whose word pieces the student reads.
        start: the model that its first weights come from, where it learns from answers only and they are not random.
        by_layers: whether the teacher's layers can be learnt from, beside its answers.
    """

    reader: Source
    start: Source | None
    by_layers: bool


def plan_teaching(config: DistillConfig, source: Source, teacher: Any, workdir: Path) -> Teaching:
    """Find out what a student can learn from its teacher, and say it where that is the answers only.

    Args:
        config: options.
        source, teacher: the teacher as it was named, and its model.
        workdir: gets the files of other models' tokenizers.

    Raises:
        ToolkitError: options that need the layers of a teacher that gives its answers only.
    """
    start = None if config.init in COMPUTED else open_start(config.init, workdir)
    other = start if config.student_tokenizer is None else Source(config.student_tokenizer, workdir / "pieces")
    if other is not None and not shares_pieces(other, source):
        problem: str | None = f"the student reads the word pieces of {other.name}"
    else:
        problem = recording_problem(teacher)
    if problem is None:
        return Teaching(source, None, by_layers=True)
    sentence = f"{family_name(source.config)} teaches by its answers only: {problem}"
    _check_options(config, sentence)
    echo(sentence)
    return Teaching(other or source, start, by_layers=False)


def open_start(name: str, workdir: Path) -> Source:
    """Open the model that --init names, also a directory as TinyBERT's authors released them."""
    if is_released(Path(name)):
        name = str(rewrite_released(Path(name), workdir / "released"))
    return Source(name, workdir / "start")


def _check_options(config: DistillConfig, sentence: str) -> None:
    """Refuse options that read layers, or a start or family that the student cannot have."""
    if config.init == "teacher":
        raise ToolkitError(
            f"{sentence}; --init teacher would project its layers",
            expected="--init ENCODER, whose word pieces the student then reads, or --init random",
            fix="--init with a small encoder in the language of the texts: random weights need far more text",
        )
    own = config.without_derived()
    options = layer_options(own) + ["--student-family teacher"] * (config.student_family == "teacher")
    if options:
        raise ToolkitError(
            f"{sentence}; {', '.join(options)} cannot be", expected="options of the prediction stage alone",
            fix=f"leave out {', '.join(options)}",
        )  # fmt: skip


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
